"""The turn machine: a turn as a pure, synchronous object that performs nothing itself.

Poll an effect, do what it says, hand the answer back, and poll again until nothing comes. No
clock, no I/O, no task: the same answers give the same effects, which is what lets a journal, a
workflow engine or a test drive the same turn.

Rule 1: notices come in order, and all of them before the request that follows them.
Rule 2: a request is made once; the state that waits for it can make it again after a restore.
Rule 3: an answer with another id or of another kind than the state waits for changes nothing.
"""

from collections.abc import Sequence
from typing import Self

from ...model.causes import TurnCause
from ...model.messages import Message
from ...model.outcome import TurnOutcome
from ...model.session_events import ErrorEvent
from ..shared_sequence import SharedSequence
from .checkpoint import MachineCheckpoint, restored_context, taken_checkpoint
from .config import TurnMachineConfig
from .context import TurnContext
from .effects import Effect, Response
from .states import PREPARE_ITERATION, MachineState, WaitingState, request_of
from .transitions import STEPS, TRANSITIONS


class TurnMachine:
    """One turn. Not thread-safe; whoever drives it owns it."""

    __slots__ = ("_turn",)

    def __init__(
        self,
        config: TurnMachineConfig,
        *,
        turn_id: str,
        messages: SharedSequence[Message],
        turn_causes: Sequence[TurnCause] = (),
        run_offset: int = 0,
    ) -> None:
        """`messages` is the transcript, the turn's opening messages included. `run_offset` is
        the first iteration's number, for a turn that goes on from another run."""
        self._turn = TurnContext(
            config,
            turn_id=turn_id,
            messages=messages,
            turn_causes=turn_causes,
            run_offset=run_offset,
        )

    @property
    def is_done(self) -> bool:
        """The turn has ended; its last effects may still wait to be polled."""
        return self._turn.is_finished

    @property
    def state(self) -> MachineState:
        return self._turn.state

    @property
    def protocol_iteration(self) -> int:
        return self._turn.iteration

    @property
    def messages(self) -> SharedSequence[Message]:
        """The transcript so far, transient messages included."""
        return self._turn.messages

    def poll_effect(self) -> Effect | None:
        """The next thing to do; `None` while an answer is due and when the turn is over.

        Raises `ProtocolDriverError` for a driver that breaks its rules.
        """
        turn = self._turn
        while True:
            if turn.notices:
                return turn.notices.popleft()
            step = STEPS.get(type(turn.state))
            if step is not None:
                step.take(turn)
                continue
            if turn.asked or not isinstance(turn.state, WaitingState):
                return None
            turn.asked = True
            return request_of(turn.state)

    def handle_response(self, response: Response) -> None:
        """Take an answer. One that nobody waits for is ignored."""
        turn = self._turn
        state = turn.state
        transition = TRANSITIONS.get((type(state), type(response)))
        if transition is not None and response.effect_id == turn.effects_asked:
            # The wait is over, whatever the answer leads to.
            turn.state = PREPARE_ITERATION
            transition.handle(turn, state, response)

    def fail_turn(self, error: ErrorEvent) -> None:
        """End the turn as `runtime_error`; nothing happens if it has ended."""
        if not self.is_done:
            self._turn.fail(error)

    def finish_with_outcome(self, outcome: TurnOutcome) -> None:
        """End the turn from outside; nothing happens if it has ended.

        Open calls are answered in the history with what became of them.
        """
        if not self.is_done:
            self._turn.finish(outcome)

    def checkpoint(self) -> MachineCheckpoint:
        """The turn as plain data, at any moment."""
        return taken_checkpoint(self._turn)

    @classmethod
    def restore_from_checkpoint(
        cls, config: TurnMachineConfig, checkpoint: MachineCheckpoint
    ) -> Self:
        """A machine that goes on from `checkpoint`, and asks again for what it waited for."""
        machine = cls.__new__(cls)
        machine._turn = restored_context(config, checkpoint)
        return machine
