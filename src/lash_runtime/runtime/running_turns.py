"""The turns of one open session, from the moment they are asked for until they are over.

A turn runs in a task of the core. Its caller waits for it as its owner: a caller that is
cancelled cancels its turn, waits a bounded time for the history to be closed and stored, and
only then goes on being cancelled. What was finished is kept.
"""

from collections.abc import Callable
from typing import Final

import anyio

from ..model.records import replace
from .lash_runtime import LashRuntime
from .tasks import OwnedTask
from .turn.request import TurnRequest
from .turn.result import TurnResult
from .turn.run import TurnRun
from .turn.sinks import TurnActivitySink

CLOSING_DEADLINE_S: Final = 5.0
"""How long a cancelled caller waits for its turn to be closed and stored."""


class RunningTurn:
    """One turn that was asked for. Its owner waits for `result()`."""

    def __init__(
        self, runtime: LashRuntime, request: TurnRequest, sink: TurnActivitySink | None
    ) -> None:
        self.turn_id = request.turn_id
        self._token = request.cancel
        self._in_line = True
        # Before its task begins: whoever has asked for a turn may cancel it by its id at once.
        runtime.env.turns.add(runtime.session_id, request.turn_id, request.cancel)
        self._task: OwnedTask[TurnResult] = runtime.env.tasks.start(
            self._run(runtime, request, sink), name=f"lash-turn-{request.turn_id}"
        )

    @property
    def is_over(self) -> bool:
        return self._task.task.done()

    def on_over(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the turn is over; soon if it already is."""
        self._task.task.add_done_callback(lambda _: callback())

    def cancel(self) -> None:
        """Wind the turn down: it keeps what it has finished and commits as cancelled."""
        self._token.cancel("cancelled by its host")

    async def result(self) -> TurnResult:
        """Wait for the turn as its owner. Raises `RuntimeFault`."""
        await self.closed()
        return self._task.result()

    async def closed(self) -> None:
        """Wait until the turn is over, however it ends; being cancelled here cancels the turn."""
        try:
            await self._task.settled()
        except anyio.get_cancelled_exc_class():
            await self._close()
            raise

    async def settled(self) -> None:
        """Wait as a bystander: being cancelled here does nothing to the turn."""
        await self._task.settled()

    async def _close(self) -> None:
        if self._in_line:
            # Nothing was accepted, so there is nothing to close.
            self._task.interrupt()
        else:
            self._token.cancel("its caller was cancelled")
        with anyio.move_on_after(CLOSING_DEADLINE_S, shield=True):
            await self._task.settled()
        if not self.is_over:
            self._task.interrupt()

    async def _run(
        self, runtime: LashRuntime, request: TurnRequest, sink: TurnActivitySink | None
    ) -> TurnResult:
        try:
            given = request.overrides.provider
            if given is None:
                return await self._in_lane(runtime, request, sink)
            use = runtime.env.providers.use(given)
            try:
                return await self._in_lane(runtime, replace(request, provider=use.provider), sink)
            finally:
                await use.end()
        finally:
            runtime.env.turns.remove(runtime.session_id, request.turn_id, request.cancel)

    async def _in_lane(
        self, runtime: LashRuntime, request: TurnRequest, sink: TurnActivitySink | None
    ) -> TurnResult:
        async with runtime.lane.turn():
            self._in_line = False
            return await TurnRun(runtime, request, sink).run()


class RunningTurns:
    """All turns that were started through one open session and its clones."""

    def __init__(self) -> None:
        # In the order in which they were started: a dict keeps it, and a set does not.
        self._turns: dict[RunningTurn, None] = {}

    def __len__(self) -> int:
        self._forget_finished()
        return len(self._turns)

    def start(
        self, runtime: LashRuntime, request: TurnRequest, sink: TurnActivitySink | None
    ) -> RunningTurn:
        """Start a turn; it stands in line at once, in the order of the calls."""
        self._forget_finished()
        turn = RunningTurn(runtime, request, sink)
        self._turns[turn] = None
        return turn

    @property
    def leading_id(self) -> str | None:
        """The id of the turn that runs, or is the first in line."""
        self._forget_finished()
        return next(iter(self._turns)).turn_id if self._turns else None

    def cancel_all(self) -> int:
        """Cancel every turn that runs or waits in line; returns how many there were."""
        self._forget_finished()
        for turn in self._turns:
            turn.cancel()
        return len(self._turns)

    def _forget_finished(self) -> None:
        self._turns = {turn: None for turn in self._turns if not turn.is_over}
