"""What the turn machine asks of the world, and what the world answers.

An effect with an `effect_id` wants exactly one response with that id; the others are notices.
Both sides are plain data, so a turn can be driven by a runtime, a journal or a test.
"""

from collections.abc import Mapping
from typing import Any, Literal

from ...model.causes import TurnCause
from ...model.checkpoints import CheckpointKind
from ...model.llm import LlmCallError, LlmRequest, LlmResponse, LlmToolSpec
from ...model.messages import Message
from ...model.outcome import TurnOutcome
from ...model.records import dataclass
from ...model.session_events import SessionEvent
from ...model.tool_results import CompletedToolCall, PendingToolCall
from ..read_model import EventRecord
from ..shared_sequence import SharedSequence


@dataclass(frozen=True, slots=True)
class SyncExecutionEnvironment:
    """Bring tools and prompt up to date; the answer counts only with `update_machine_config`."""

    effect_id: int
    update_machine_config: bool


@dataclass(frozen=True, slots=True)
class CallLlm:
    """Call the model. Attachments are references; live callbacks are the runtime's to add."""

    effect_id: int
    request: LlmRequest


@dataclass(frozen=True, slots=True)
class CallTools:
    """Run the calls of one model response. Their order is the model's."""

    effect_id: int
    calls: tuple[PendingToolCall, ...]


@dataclass(frozen=True, slots=True)
class ExecCode:
    effect_id: int
    language: str
    code: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Collect what waits to join the turn at this moment."""

    effect_id: int
    checkpoint: CheckpointKind


@dataclass(frozen=True, slots=True)
class EmitEvent:
    event: SessionEvent
    type: Literal["emit"] = "emit"


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Something an operator may want to know and no one else; `data` is JSON."""

    name: str
    data: Mapping[str, Any]
    type: Literal["log"] = "log"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the turn has added; comes before the effect that builds on it.

    `messages` is the whole transcript, transient messages included; `event_delta` holds the
    records that no earlier progress has reported.
    """

    messages: SharedSequence[Message]
    event_delta: tuple[EventRecord, ...]
    iteration: int
    type: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class Done:
    """The last effect of a turn: as `Progress`, with how the turn ended."""

    messages: SharedSequence[Message]
    event_delta: tuple[EventRecord, ...]
    iteration: int
    outcome: TurnOutcome
    type: Literal["done"] = "done"


Request = SyncExecutionEnvironment | CallLlm | CallTools | ExecCode | Checkpoint
"""An effect that wants a response."""

Notice = EmitEvent | LogEvent | Progress | Done
"""An effect that wants none."""

Effect = Request | Notice


@dataclass(frozen=True, slots=True)
class ExecutionEnvironment:
    """What the model may use from now on, and the prompt that says so."""

    system_prompt: str
    tool_specs: tuple[LlmToolSpec, ...]


@dataclass(frozen=True, slots=True)
class EnvironmentSynced:
    """`None` when nothing changed; a string says why the environment could not be had."""

    effect_id: int
    result: ExecutionEnvironment | str | None = None


@dataclass(frozen=True, slots=True)
class LlmCompleted:
    """`text_streamed` says that the text was shown as deltas while it came in."""

    effect_id: int
    result: LlmResponse | LlmCallError
    text_streamed: bool = False


@dataclass(frozen=True, slots=True)
class ToolsCompleted:
    """Results in any order; a call without one counts as cancelled."""

    effect_id: int
    results: tuple[CompletedToolCall, ...]


@dataclass(frozen=True, slots=True)
class ExecResponse:
    """What a piece of code printed, the value it gave, or the error it ended in."""

    output: str = ""
    value: Any = None
    error: str | None = None
    duration_ms: int = 0
    tool_call_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecCompleted:
    """A string says why the code could not be run at all."""

    effect_id: int
    result: ExecResponse | str


@dataclass(frozen=True, slots=True)
class CheckpointDelivered:
    """What joins the turn; empty when nothing waited."""

    effect_id: int
    messages: tuple[Message, ...] = ()
    transient_messages: tuple[Message, ...] = ()
    turn_causes: tuple[TurnCause, ...] = ()

    def is_empty(self) -> bool:
        return not (self.messages or self.transient_messages or self.turn_causes)


Response = EnvironmentSynced | LlmCompleted | ToolsCompleted | ExecCompleted | CheckpointDelivered
