"""Providers for the two usual cases: tools made from functions, and tools that bring a schema."""

from collections.abc import Sequence
from typing import Any, Protocol

from ..model.tool_results import ToolCallOutput
from ..model.tools import ToolContract, ToolDefinition, ToolManifest
from ..ports.tools import PreparedToolCall, ToolContext
from .errors import ToolCatalogError
from .function_tool import FunctionTool
from .results import adapt_result


class FunctionToolProvider:
    """Offers functions as tools; pydantic checks their arguments."""

    def __init__(self, *tools: FunctionTool[..., Any]) -> None:
        """Raises `ToolCatalogError` for a method that was not taken from an instance."""
        for tool in tools:
            if tool.unbound:
                raise ToolCatalogError(
                    f"tool {tool.name!r} is a method: take it from an instance of its class"
                )
        self._tools = {tool.manifest.id: tool for tool in tools}
        self._manifests = tuple(tool.manifest for tool in tools)

    def tool_manifests(self) -> Sequence[ToolManifest]:
        return self._manifests

    def resolve_contract(self, tool_id: str) -> ToolContract | None:
        tool = self._tools.get(tool_id)
        return None if tool is None else tool.contract

    def validate_arguments(self, tool_id: str, args: Any) -> str | None:
        return self._tools[tool_id].problem_with(args)

    async def execute(self, call: PreparedToolCall, context: ToolContext) -> ToolCallOutput:
        return await self._tools[call.tool_id].execute(call.args, context)


class ToolExecutor(Protocol):
    """Runs the tools of a `StaticToolProvider`."""

    async def execute(self, call: PreparedToolCall, context: ToolContext) -> object:
        """Run one attempt; return any JSON-able or pydantic value, or a `ToolResult`.

        Called concurrently. An exception becomes a failure that the model sees.
        """
        ...


class StaticToolProvider:
    """Offers a fixed set of definitions, run by one executor.

    Arguments are checked against each definition's input schema.
    """

    def __init__(self, definitions: Sequence[ToolDefinition], executor: ToolExecutor) -> None:
        self._executor = executor
        self._manifests = tuple(definition.manifest for definition in definitions)
        self._contracts = {
            definition.manifest.id: definition.contract for definition in definitions
        }

    def tool_manifests(self) -> Sequence[ToolManifest]:
        return self._manifests

    def resolve_contract(self, tool_id: str) -> ToolContract | None:
        return self._contracts.get(tool_id)

    async def execute(self, call: PreparedToolCall, context: ToolContext) -> ToolCallOutput:
        value = await self._executor.execute(call, context)
        return await adapt_result(value, context.attachments)
