"""What a protocol driver may tell the machine to do next.

Actions are applied in order. A list holds at most one `Start…`, which takes effect after
everything else in it, and `Finish` ends the list.
"""

from collections.abc import Mapping
from typing import Any

from ...model.checkpoints import CheckpointKind
from ...model.llm import LlmRequest
from ...model.messages import Message
from ...model.outcome import TurnOutcome
from ...model.records import dataclass
from ...model.session_events import SessionEvent
from ...model.tool_results import PendingToolCall
from ..read_model import EventRecord
from .states import OnEmpty


@dataclass(frozen=True, slots=True)
class Emit:
    event: SessionEvent


@dataclass(frozen=True, slots=True)
class Log:
    """Tell the operator; `data` is JSON."""

    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AppendEvents:
    """Add records to the history; conversation records become messages too."""

    records: tuple[EventRecord, ...]


@dataclass(frozen=True, slots=True)
class AdvanceProtocolIteration:
    """A round of work is over; the next model call belongs to a new iteration."""


@dataclass(frozen=True, slots=True)
class ScheduleTurnLimitFinal:
    """Show `message` to the model: its next answer is the last."""

    message: Message


@dataclass(frozen=True, slots=True)
class StartLlm:
    request: LlmRequest
    driver_state: Any = None


@dataclass(frozen=True, slots=True)
class StartTools:
    calls: tuple[PendingToolCall, ...]


@dataclass(frozen=True, slots=True)
class StartExec:
    language: str
    code: str
    driver_state: Any = None


@dataclass(frozen=True, slots=True)
class StartCheckpoint:
    checkpoint: CheckpointKind
    on_empty: OnEmpty


@dataclass(frozen=True, slots=True)
class Finish:
    outcome: TurnOutcome


StartAction = StartLlm | StartTools | StartExec | StartCheckpoint
DriverAction = (
    Emit
    | Log
    | AppendEvents
    | AdvanceProtocolIteration
    | ScheduleTurnLimitFinal
    | StartAction
    | Finish
)
