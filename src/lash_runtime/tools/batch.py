"""The `batch` tool, for models that can make only one call in a response.

It is opt-in: put `batch_tool()` into a catalog beside the tools that it is to call. Its children
run like the model's own calls, side by side, and are shown as calls of their own.
"""

from collections.abc import Sequence
from typing import Any, Final, assert_never

from ..model.schema import SchemaContract
from ..model.tool_results import (
    CompletedToolCall,
    PendingToolCall,
    ToolCallOutput,
    ToolCancelled,
    ToolFailed,
    ToolSuccess,
)
from ..model.tools import OnUnknown, ToolContract, ToolDefinition, ToolManifest
from ..ports.tools import PreparedToolCall, ToolContext, ToolDispatch
from .providers import StaticToolProvider

BATCH_NAME: Final = "batch"
MAX_CALLS: Final = 25


def batch_tool() -> StaticToolProvider:
    """The provider of `batch`."""
    return StaticToolProvider((_definition(),), _BatchExecutor())


def _definition() -> ToolDefinition:
    return ToolDefinition(
        manifest=ToolManifest(
            id="tool:batch",
            name=BATCH_NAME,
            description=(
                f"Make up to {MAX_CALLS} tool calls that do not depend on each other in one call. "
                "Every entry of the result says how the call with that index went."
            ),
            # It does nothing itself, and what its calls have done is on record of each.
            on_unknown=OnUnknown.RERUN,
        ),
        contract=ToolContract(
            input_schema=SchemaContract(
                canonical={
                    "type": "object",
                    "properties": {
                        "tool_calls": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MAX_CALLS,
                            "items": {
                                "type": "object",
                                "properties": {
                                    "tool": {"type": "string", "description": "The tool's name"},
                                    "parameters": {
                                        "type": "object",
                                        "description": "Its arguments",
                                        "additionalProperties": True,
                                    },
                                },
                                "required": ["tool", "parameters"],
                                "additionalProperties": False,
                            },
                        }
                    },
                    "required": ["tool_calls"],
                    "additionalProperties": False,
                }
            ),
            output_schema=SchemaContract(
                canonical={
                    "type": "object",
                    "properties": {"results": {"type": "array", "items": {"type": "object"}}},
                    "required": ["results"],
                }
            ),
        ),
    )


class _BatchExecutor:
    async def execute(self, call: PreparedToolCall, context: ToolContext) -> ToolCallOutput:
        wanted: Sequence[Any] = call.args["tool_calls"]
        entries = {index: _refusal(item, index, context) for index, item in enumerate(wanted)}
        calls = {
            index: PendingToolCall(
                call_id=f"{call.call_id}:{index:02}",
                tool_name=wanted[index]["tool"],
                args=wanted[index]["parameters"],
            )
            for index, refusal in entries.items()
            if refusal is None
        }
        results = await _run(context.dispatch, tuple(calls.values()))
        for index, completed in zip(calls, results, strict=True):
            entries[index] = _entry(index, completed)
        # The children's values are encoded already; to encode them again would hide what is
        # attached to them.
        return ToolCallOutput.success({"results": list(entries.values())})


async def _run(
    dispatch: ToolDispatch | None, calls: Sequence[PendingToolCall]
) -> tuple[CompletedToolCall, ...]:
    if dispatch is None or not calls:
        return ()
    return await dispatch.batch(calls)


def _refusal(item: Any, index: int, context: ToolContext) -> dict[str, Any] | None:
    """The entry of a call that is not made; `None` for one that is."""
    name = item["tool"]
    if context.dispatch is None:
        error = "tool batch dispatch is unavailable outside runtime execution"
    elif name == BATCH_NAME:
        error = f"Tool '{BATCH_NAME}' is not allowed inside {BATCH_NAME}"
    else:
        return None
    return {"index": index, "tool": name, "success": False, "duration_ms": 0, "error": error}


def _entry(index: int, completed: CompletedToolCall) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "index": index,
        "tool": completed.tool_name,
        "success": completed.output.is_success,
        "duration_ms": completed.duration_ms,
    }
    match completed.output.outcome:
        case ToolSuccess(payload=payload):
            return entry | {"result": payload}
        case ToolFailed(payload=failure):
            error = failure.message
        case ToolCancelled(payload=cancelled):
            error = cancelled.message
        case _:
            assert_never(completed.output.outcome)
    return entry | {"error": error}
