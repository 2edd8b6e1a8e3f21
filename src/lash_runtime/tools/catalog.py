"""The tools that a model may call: membership in the catalog is what lets a call through.

A catalog is made once and never changes, so what is derived from it can be kept. Contracts are
resolved when a tool is first shown or called.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.llm import LlmToolSpec
from ..model.tools import ToolContract, ToolManifest
from ..ports.tools import ArgumentValidator, ToolProvider
from .errors import ToolCatalogError
from .function_tool import FunctionTool
from .providers import FunctionToolProvider
from .schema_check import problem_with

ToolSource = FunctionTool[..., Any] | ToolProvider
"""What a catalog is made of: tools, and providers of tools."""


@dataclass(slots=True)
class CatalogTool:
    """One tool, with the provider that runs it."""

    manifest: ToolManifest
    provider: ToolProvider
    _contract: ToolContract | None = field(default=None, init=False, repr=False)
    _validator: ArgumentValidator | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Asked once: to compare a provider with a protocol costs more than most checks do.
        provider = self.provider
        self._validator = provider if isinstance(provider, ArgumentValidator) else None

    def contract(self) -> ToolContract | None:
        """The tool's schemas; `None` while its provider cannot give them."""
        if self._contract is None:
            self._contract = self.provider.resolve_contract(self.manifest.id)
        return self._contract

    def problem_with(self, contract: ToolContract, args: Any) -> str | None:
        """Which argument is wrong and why; `None` when all are in order."""
        if self._validator is not None:
            return self._validator.validate_arguments(self.manifest.id, args)
        return problem_with(contract.input_schema.canonical, args)


class ToolCatalog:
    """The members by name, in the order in which they were given."""

    __slots__ = ("_names", "_specs", "_tools")

    def __init__(self, tools: Mapping[str, CatalogTool]) -> None:
        self._tools = tools
        self._names = tuple(tools)
        self._specs: tuple[LlmToolSpec, ...] | None = None

    @classmethod
    def of(cls, *sources: ToolSource) -> "ToolCatalog":
        """The catalog of all tools of these sources.

        Raises `ToolCatalogError` when two of them share a name or an id.
        """
        tools: dict[str, CatalogTool] = {}
        by_id: dict[str, str] = {}
        for entry in _entries(sources):
            manifest = entry.manifest
            if not manifest.name.strip():
                raise ToolCatalogError(f"the tool with the id {manifest.id!r} has no name")
            if manifest.name in tools:
                raise ToolCatalogError(
                    f"two tools are named {manifest.name!r}: give one another name"
                )
            if manifest.id in by_id:
                raise ToolCatalogError(
                    f"tools {by_id[manifest.id]!r} and {manifest.name!r} share the id "
                    f"{manifest.id!r}"
                )
            tools[manifest.name] = entry
            by_id[manifest.id] = manifest.name
        return cls(tools)

    def get(self, name: str) -> CatalogTool | None:
        return self._tools.get(name)

    def tool_names(self) -> tuple[str, ...]:
        return self._names

    def tool_specs(self) -> tuple[LlmToolSpec, ...]:
        """What the model is told: always the same tuple, once every contract could be had.

        A tool without a contract is left out; a call of it gets a failure that says why.
        """
        if self._specs is not None:
            return self._specs
        specs = tuple(spec for tool in self._tools.values() if (spec := _spec(tool)) is not None)
        if len(specs) == len(self._tools):
            self._specs = specs
        return specs


def _entries(sources: Iterable[ToolSource]) -> Iterable[CatalogTool]:
    for source in sources:
        provider = FunctionToolProvider(source) if isinstance(source, FunctionTool) else source
        if not hasattr(provider, "tool_manifests"):
            raise ToolCatalogError(
                f"{provider!r} is no tool: decorate a function with @tool, or pass a provider"
            )
        for manifest in provider.tool_manifests():
            yield CatalogTool(manifest, provider)


def _spec(tool: CatalogTool) -> LlmToolSpec | None:
    contract = tool.contract()
    if contract is None:
        return None
    return LlmToolSpec(
        name=tool.manifest.name,
        description=tool.manifest.description,
        input_schema=contract.input_schema,
        output_schema=contract.output_schema,
    )
