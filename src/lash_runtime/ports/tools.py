"""Where tools come from: the provider that describes and runs them."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any, Protocol, runtime_checkable

from ..model._value import Value, omitted_when_none
from ..model.messages import ProviderReplayMeta
from ..model.records import dataclass
from ..model.tool_results import CompletedToolCall, PendingToolCall, ToolCallOutput
from ..model.tools import ToolContract, ToolId, ToolManifest
from .attachments import Attachments
from .cancel import CancelToken


class PreparedToolCall(Value):
    """A validated call, ready to run, as the journal and a workflow engine store it."""

    call_id: str
    tool_id: ToolId
    tool_name: str
    args: Any
    replay: ProviderReplayMeta | None = omitted_when_none()
    prepared_payload: Any = omitted_when_none()


class ToolDispatch(Protocol):
    """Lets a running tool call other tools of its session."""

    async def batch(self, calls: Sequence[PendingToolCall]) -> tuple[CompletedToolCall, ...]:
        """Run `calls` as the model's own are run, visible as children of this call.

        Results come in the order of `calls`, one for each; a call that fails says so in its
        result. Call ids have to be unique within the turn: derive them from this call's id.
        Stops with this call: when the turn is cancelled, what has not finished is cancelled.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a running tool may know and use.

    `idempotency_key` is the same for every attempt of this call, also after a crash: pass it to
    outside services that recognise repeats. `attempt_number` counts from 1. `run_number` says how
    often this very attempt was begun: more than once only if a process has died in it.
    `cancellation_token` fires when the turn is cancelled or the attempt's time is up; a tool that
    returns within 50 ms of a cancel keeps its result. `dispatch` calls other tools; it is `None`
    where that cannot be done: outside a turn, and where an engine records the attempt whole.
    `attachments` stores images and reads them back; it is `None` outside a turn.
    """

    session_id: str
    turn_id: str
    agent_frame_id: str
    tool_name: str
    tool_call_id: str
    protocol_iteration: int = 0
    call_index: int = 0
    attempt_number: int = 1
    max_attempts: int = 1
    run_number: int = 1
    cancellation_token: CancelToken = field(default_factory=CancelToken, repr=False)
    dispatch: ToolDispatch | None = field(default=None, repr=False)
    attachments: Attachments | None = field(default=None, repr=False)

    @property
    def idempotency_key(self) -> str:
        return tool_replay_key(
            self.session_id,
            self.turn_id,
            self.tool_call_id,
            self.tool_name,
            position=f"{self.protocol_iteration}.{self.call_index}",
        )


def tool_replay_key(
    session_id: str, turn_id: str, call_id: str, tool_name: str, *, position: str = "0.0"
) -> str:
    """The key of one logical tool call, stable over attempts and restarts.

    Endpoints use call ids such as `call_1` again in every response, hence the turn and the
    call's `position` in it: the model iteration and the index among its calls.
    """
    return f"lash-tool:{session_id}:{turn_id}:{position}:{call_id}:{tool_name}"


class ToolProvider(Protocol):
    """A source of tools. Called concurrently from all sessions that use it."""

    def tool_manifests(self) -> Sequence[ToolManifest]:
        """The tools it offers now; read again whenever the catalog is refreshed."""
        ...

    def resolve_contract(self, tool_id: str) -> ToolContract | None:
        """The schemas of one tool; asked only for tools that are shown or called."""
        ...

    async def execute(self, call: PreparedToolCall, context: ToolContext) -> ToolCallOutput:
        """Run one attempt.

        An ordinary exception becomes a typed failure that the model sees; cancellation of the
        task passes through and the call counts as cut off.
        """
        ...


@runtime_checkable
class ArgumentValidator(Protocol):
    """What a provider adds that checks arguments better than their JSON Schema can."""

    def validate_arguments(self, tool_id: str, args: Any) -> str | None:
        """Say which argument is wrong and why; `None` when all are in order.

        Called before each call instead of the schema check, in the order of the model's calls.
        """
        ...
