"""Where a turn can be. A state holds all that is needed to ask again for what it waits for."""

from typing import Any, Final, Literal

from ...model.checkpoints import CheckpointKind
from ...model.llm import LlmRequest
from ...model.outcome import TurnOutcome
from ...model.records import dataclass
from ...model.tool_results import PendingToolCall
from .effects import CallLlm, CallTools, Checkpoint, ExecCode, Request, SyncExecutionEnvironment


@dataclass(frozen=True, slots=True)
class PreparingProtocol:
    """Nothing has happened yet."""

    type: Literal["preparing_protocol"] = "preparing_protocol"


@dataclass(frozen=True, slots=True)
class WaitingExecutionEnvironment:
    effect_id: int
    update_machine_config: bool
    type: Literal["waiting_execution_environment"] = "waiting_execution_environment"


@dataclass(frozen=True, slots=True)
class PrepareIteration:
    """The next poll asks the driver what to do."""

    type: Literal["prepare_iteration"] = "prepare_iteration"


PREPARE_ITERATION: Final = PrepareIteration()
"""Every answer leads here, if only for a moment."""


@dataclass(frozen=True, slots=True)
class WaitingLlm:
    """`driver_state` is the driver's own note on this call, as JSON."""

    effect_id: int
    request: LlmRequest
    driver_state: Any = None
    type: Literal["waiting_llm"] = "waiting_llm"


@dataclass(frozen=True, slots=True)
class WaitingTools:
    effect_id: int
    calls: tuple[PendingToolCall, ...]
    type: Literal["waiting_tools"] = "waiting_tools"


@dataclass(frozen=True, slots=True)
class WaitingExec:
    effect_id: int
    language: str
    code: str
    driver_state: Any = None
    type: Literal["waiting_exec"] = "waiting_exec"


@dataclass(frozen=True, slots=True)
class ContinueTurn:
    """After an empty checkpoint, go on with the next iteration."""

    type: Literal["continue_turn"] = "continue_turn"


@dataclass(frozen=True, slots=True)
class FinishWith:
    """After an empty checkpoint, end the turn."""

    outcome: TurnOutcome
    type: Literal["finish_with"] = "finish_with"


OnEmpty = ContinueTurn | FinishWith


@dataclass(frozen=True, slots=True)
class WaitingCheckpoint:
    effect_id: int
    checkpoint: CheckpointKind
    on_empty: OnEmpty
    type: Literal["waiting_checkpoint"] = "waiting_checkpoint"


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """Nothing changes any more."""

    type: Literal["finished"] = "finished"


WaitingState = (
    WaitingExecutionEnvironment | WaitingLlm | WaitingTools | WaitingExec | WaitingCheckpoint
)
MachineState = PreparingProtocol | PrepareIteration | WaitingState | TurnFinished


def request_of(state: WaitingState) -> Request:
    """The effect that `state` waits for."""
    match state:
        case WaitingExecutionEnvironment():
            return SyncExecutionEnvironment(state.effect_id, state.update_machine_config)
        case WaitingLlm():
            return CallLlm(state.effect_id, state.request)
        case WaitingTools():
            return CallTools(state.effect_id, state.calls)
        case WaitingExec():
            return ExecCode(state.effect_id, state.language, state.code)
        case WaitingCheckpoint():
            return Checkpoint(state.effect_id, state.checkpoint)
