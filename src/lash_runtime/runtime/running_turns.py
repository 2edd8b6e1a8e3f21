"""The turns of one open session, from the moment they are asked for until they are over.

A turn runs in a task of the core. Its caller waits for it as its owner: a caller that is
cancelled cancels its turn, waits a bounded time for the history to be closed and stored, and
only then goes on being cancelled. What was finished is kept.
"""

from collections.abc import Callable
from typing import Final
from weakref import WeakSet

import anyio
from anyio.lowlevel import checkpoint

from ..model.records import replace
from ..ports.session_cursor import SessionCursor
from .lash_runtime import LashRuntime
from .tasks import OwnedTask
from .turn.request import TurnRequest
from .turn.result import TurnResult
from .turn.run import TurnRun
from .turn.sinks import TurnActivitySink
from .turn_reader import end_of_log
from .turn_registry import TurnWatcher

CLOSING_DEADLINE_S: Final = 5.0
"""How long a cancelled caller waits for its turn to be closed and stored."""


class RunningTurn:
    """One turn that was asked for. Its owner waits for `result()`; others see a `LiveTurn`."""

    def __init__(
        self, runtime: LashRuntime, request: TurnRequest, sink: TurnActivitySink | None
    ) -> None:
        self.turn_id = request.turn_id
        self.request = request
        self.began_at: SessionCursor | None = None
        self._token = request.cancel
        self._observed = runtime.cell.observed
        self._in_line = True
        self._leaves = False
        self._watchers: WeakSet[TurnWatcher] | None = None
        self._task: OwnedTask[TurnResult] = runtime.env.tasks.start(
            self._run(runtime, request, sink), name=f"lash-turn-{request.turn_id}"
        )
        runtime.env.turns.register(runtime.session_id, self)

    @property
    def is_over(self) -> bool:
        return self._task.task.done()

    @property
    def is_cancelled(self) -> bool:
        return self._token.is_cancelled

    @property
    def gave_up(self) -> bool:
        if not (self._in_line and self.is_over):
            return False
        return self._task.interrupted or self._task.task.exception() is not None

    def watch(self, watcher: TurnWatcher) -> None:
        if self.is_over:
            watcher.turn_is_over()
            return
        if self._watchers is None:
            self._watchers = WeakSet()
            self.on_over(self._tell_watchers)
        self._watchers.add(watcher)

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

    def outcome(self) -> TurnResult:
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
            self._leaves = True
            self._task.interrupt()
        else:
            self._token.cancel("its caller was cancelled")
        with anyio.move_on_after(CLOSING_DEADLINE_S, shield=True):
            await self._task.settled()
        if not self.is_over:
            self._task.interrupt()

    def _tell_watchers(self) -> None:
        for watcher in self._watchers or ():
            watcher.turn_is_over()

    async def _run(
        self, runtime: LashRuntime, request: TurnRequest, sink: TurnActivitySink | None
    ) -> TurnResult:
        given = request.overrides.provider
        use = None if given is None else runtime.env.providers.use(given)
        try:
            if use is not None:
                request = replace(request, provider=use.provider)
            return await self._in_lane(runtime, request, sink)
        finally:
            runtime.env.turns.forget(runtime.session_id, self)
            if use is not None:
                await use.end()

    async def _in_lane(
        self, runtime: LashRuntime, request: TurnRequest, sink: TurnActivitySink | None
    ) -> TurnResult:
        async with runtime.lane.turn():
            if self._leaves:
                # Its caller has left in the very step in which the line moved on.
                await checkpoint()
            self._in_line = False
            self.began_at = end_of_log(self._observed)
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
