"""From what the model asked for to a call that can be run, or to the failure that it gets.

Membership in the catalog comes first: the provider of a tool that is not in it is never asked.
"""

from ...model.records import dataclass
from ...model.tool_results import (
    PendingToolCall,
    ToolCallOutput,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
)
from ...model.unicode_text import storable_text
from ...ports.effects import ToolCallDone
from ...ports.tools import PreparedToolCall
from ...tools.catalog import CatalogTool, ToolCatalog
from ...tools.function_tool import invalid_arguments
from ...tools.results import exception_text


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyCall:
    """A call whose arguments fit. `index` is its place among the calls asked for."""

    index: int
    pending: PendingToolCall
    prepared: PreparedToolCall
    tool: CatalogTool

    @property
    def replay_suffix(self) -> str:
        """What tells its replay key from those of the batch and its siblings."""
        return f"child:{self.index}:{self.pending.call_id}"


def prepare(catalog: ToolCatalog, index: int, call: PendingToolCall) -> ReadyCall | ToolFailure:
    """Look the tool up and check the arguments."""
    tool = catalog.get(call.tool_name)
    if tool is None:
        return runtime_failure(
            "tool_unavailable",
            f"Tool {call.tool_name!r} is unavailable in this session",
            class_=ToolFailureClass.UNAVAILABLE,
        )
    if call.args_error is not None:
        return invalid_arguments(f"arguments: {call.args_error}")
    failure = _argument_failure(tool, call)
    if failure is not None:
        return failure
    prepared = PreparedToolCall(
        call_id=call.call_id,
        tool_id=tool.manifest.id,
        tool_name=call.tool_name,
        args=call.args,
        replay=call.replay,
    )
    return ReadyCall(index=index, pending=call, prepared=prepared, tool=tool)


def runtime_failure(
    code: str, message: str, *, class_: ToolFailureClass = ToolFailureClass.INTERNAL
) -> ToolFailure:
    """A failure that the tool itself has no part in."""
    return ToolFailure(
        class_=class_,
        code=code,
        message=storable_text(message),
        source=ToolFailureSource.RUNTIME,
    )


def failed(failure: ToolFailure) -> ToolCallDone:
    """The end of a call that came to nothing, so that no time is counted."""
    return ToolCallDone(ToolCallOutput.failure(failure), 0)


def _argument_failure(tool: CatalogTool, call: PendingToolCall) -> ToolFailure | None:
    try:
        contract = tool.contract()
    except Exception as error:
        return runtime_failure("tool_contract_unavailable", exception_text(error))
    if contract is None:
        return runtime_failure(
            "tool_contract_unavailable", "The tool's provider has no schema for it"
        )
    try:
        problem = tool.problem_with(contract, call.args)
    except Exception as error:
        return runtime_failure("tool_validation_failed", exception_text(error))
    return None if problem is None else invalid_arguments(problem)
