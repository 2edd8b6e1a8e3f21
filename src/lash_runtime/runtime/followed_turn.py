"""A turn as somebody sees it who comes to it by its id, whoever runs it and whenever.

In this core its activities can be read. Elsewhere, and once it is over, its row tells what came
of it. Which of the two it is may change while one looks: a caller may leave before its turn has
begun, and another one have it run.

Rule: nothing of this reaches the turn. Whoever is attached may leave, be cancelled or be dropped.
"""

import anyio

from ..model.activity import TurnActivity
from ..ports.turn_ledger import TurnRow
from .faults import RuntimeFault
from .lash_runtime import LashRuntime
from .turn.result import TurnResult
from .turn.settled import fault_of_replaced_history
from .turn_reader import TurnReader
from .turn_registry import LiveTurn
from .turn_rows import find_row, settled_row, stored_result


class FollowedTurn:
    """One reader's place in a turn. It outlives the session that it was made through."""

    def __init__(self, runtime: LashRuntime, turn_id: str) -> None:
        self.turn_id = turn_id
        self._runtime = runtime
        self._observed = runtime.cell.observed
        self._turn: LiveTurn | None = None
        self._reader: TurnReader | None = None
        self._result: TurnResult | None = None
        self._reading = False
        self._waiting: anyio.CancelScope | None = None
        self._left = False
        # What the log has of the turn at this moment shall not be lost to a late first read.
        self._found_here()

    @property
    def left(self) -> bool:
        """Whether reading was given up."""
        return self._left

    async def ensure_known(self) -> None:
        """Raise the fault `unknown_turn` unless there is such a turn."""
        if self._found_here() is None and self._result is None:
            self._known(await find_row(self._runtime, self.turn_id))

    async def next_activity(self) -> TurnActivity | None:
        """The next activity; `None` after the last, and once this reader has left.

        Raises `RuntimeError` when another task is reading, and the fault `unknown_turn`.
        """
        if self._reading:
            raise RuntimeError("another task is already reading this turn's stream")
        self._reading = True
        try:
            while not self._left:
                turn, reader = self._found_here(), self._reader
                if turn is None or reader is None:
                    with anyio.CancelScope() as self._waiting:
                        if await self._settled_row() is not None:
                            return None
                    continue
                activity = await reader.next()
                if activity is not None or not turn.gave_up:
                    return activity
        finally:
            self._reading = False
            self._waiting = None
        return None

    async def result(self) -> TurnResult:
        """Wait until the turn is over, and for what came of it. Raises what it has failed with,
        and the fault `unknown_turn`. From any number of tasks."""
        while self._result is None:
            turn = self._found_here()
            if turn is None:
                row = await self._settled_row()
                if row is not None:
                    self._result = await stored_result(self._runtime, row)
                continue
            await turn.settled()
            if not turn.gave_up:
                self._result = turn.outcome()
        return self._result

    async def leave(self) -> None:
        """Read no more; ends a read that is under way. Idempotent."""
        self._left = True
        if self._waiting is not None:
            self._waiting.cancel()
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.aclose()

    def _found_here(self) -> LiveTurn | None:
        """The turn as this core has it, if it does."""
        if self._turn is None or self._turn.gave_up:
            env = self._runtime.env
            self._turn = env.turns.find(self._runtime.session_id, self.turn_id)
            self._reader = None
            if self._turn is not None and not self._left:
                self._reader = TurnReader(self._observed, self._turn, env.ids)
        return self._turn

    async def _settled_row(self) -> TurnRow | None:
        """Wait for the row to be settled; `None` as soon as this core has the turn."""
        if self._runtime.replaces_history:
            self._known(await find_row(self._runtime, self.turn_id))
            raise fault_of_replaced_history(self.turn_id)
        row = await settled_row(
            self._runtime, self.turn_id, or_else=lambda: self._found_here() is not None
        )
        return None if self._turn is not None else self._known(row)

    def _known(self, row: TurnRow | None) -> TurnRow:
        if row is not None:
            return row
        advice = (
            "without a store a turn is known only until it is over"
            if self._runtime.store is None
            else "run it under that id, which attaches to it where somebody has run it meanwhile"
        )
        raise RuntimeFault(
            "unknown_turn",
            f"session {self._runtime.session_id!r} knows no turn {self.turn_id!r}: {advice}",
        )
