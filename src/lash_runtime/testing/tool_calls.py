"""Tools without a turn: a context to hand to one, and one call made the way a turn makes it."""

from collections.abc import Mapping
from typing import Any, Final

from ..effects.inline import InlineRuntimeEffectController
from ..model.records import replace
from ..model.tool_results import PendingToolCall, ToolCallOutput
from ..ports.cancel import CancelToken
from ..ports.clock import Clock, SystemClock
from ..ports.effects import RuntimeScope
from ..ports.tools import ToolContext, ToolProvider
from ..runtime.tool_dispatch import ToolBatchRunner
from ..tools import FunctionTool, FunctionToolProvider, ToolCatalog

_CONTEXT: Final = ToolContext(
    session_id="test-session",
    turn_id="test-turn",
    agent_frame_id="test-session:frame:root",
    tool_name="tool",
    tool_call_id="call-1",
)


def mock_tool_context(**changes: Any) -> ToolContext:
    """A context as a tool of the session `test-session` gets it, with `changes` to its fields.

    It leads to no other tools and stores no images, as outside of a turn.
    """
    return replace(_CONTEXT, **({"cancellation_token": CancelToken()} | changes))


async def run_tool(
    tool: FunctionTool[..., Any] | ToolProvider,
    args: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    cancel: CancelToken | None = None,
    clock: Clock | None = None,
) -> ToolCallOutput:
    """Call one tool as a turn calls it: arguments are checked, the tool's own retry policy holds,
    and what goes wrong in it is in the output.

    `name` picks one of a provider's tools and may be left out where there is one. Raises
    `ValueError` if it is left out and there is another number of them.
    """
    provider: ToolProvider = FunctionToolProvider(tool) if isinstance(tool, FunctionTool) else tool
    runner = ToolBatchRunner(
        catalog=ToolCatalog.of(provider),
        controller=InlineRuntimeEffectController(),
        scope=RuntimeScope(
            session_id=_CONTEXT.session_id,
            turn_id=_CONTEXT.turn_id,
            turn_index=1,
            protocol_iteration=0,
        ),
        batch_id="1",
        batch_key="test-batch",
        reporter=_Silent(),
        cancel=cancel or CancelToken(),
        clock=clock or SystemClock(),
        session_id=_CONTEXT.session_id,
        turn_id=_CONTEXT.turn_id,
        agent_frame_id=_CONTEXT.agent_frame_id,
    )
    call = PendingToolCall(
        call_id=_CONTEXT.tool_call_id,
        tool_name=_only(provider) if name is None else name,
        args=dict(args or {}),
    )
    (completed,) = await runner.run((call,))
    return completed.output


def _only(provider: ToolProvider) -> str:
    names = sorted(manifest.name for manifest in provider.tool_manifests())
    if len(names) == 1:
        return names[0]
    if not names:
        raise ValueError("this provider offers no tool")
    raise ValueError(f"say which one with name=: {', '.join(repr(name) for name in names)}")


class _Silent:
    """Shows calls to nobody."""

    async def tool_started(
        self, call: PendingToolCall, parent_call_id: str | None = None
    ) -> None: ...

    async def tool_completed(
        self,
        call: PendingToolCall,
        output: ToolCallOutput,
        duration_ms: int,
        parent_call_id: str | None = None,
    ) -> None: ...
