"""The turns of one open session, from the moment they are asked for until they are over.

A turn runs in a task of the core. Its caller waits for it as its owner: a caller that is
cancelled cancels its turn, waits a bounded time for the history to be closed and stored, and
only then goes on being cancelled. What was finished is kept.

A turn that is run already, by another caller or another process, is attached to. Cancelling that
caller, by whatever means, ends its wait and nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakSet

import anyio
from anyio.lowlevel import checkpoint

from ..model.records import replace
from ..ports.session_cursor import SessionCursor
from ..ports.turn_ledger import TurnRow
from .faults import RuntimeFault, TurnRunsElsewhere
from .lash_runtime import LashRuntime
from .resubmission import is_same_turn, result_of_first
from .tasks import OwnedTask
from .turn.finishing import finish_turn
from .turn.request import TurnRequest
from .turn.result import TurnResult
from .turn.run import TurnRun
from .turn.sinks import TurnActivitySink
from .turn.stored_request import request_of_row
from .turn_reader import TurnReader, end_of_log
from .turn_registry import LiveTurn, TurnWatcher
from .turn_rows import find_row, settled_row, stored_result

CLOSING_DEADLINE_S: Final = 5.0
"""How long a cancelled caller waits for its turn to be closed and stored."""


class RunningTurn:
    """One turn that was asked for. Its owner waits for `result()`; others see a `LiveTurn`."""

    def __init__(
        self,
        runtime: LashRuntime,
        request: TurnRequest,
        sink: TurnActivitySink | None,
        *,
        left: bool = False,
    ) -> None:
        """`left` says that another process has begun the turn, which is to be finished for whoever
        attaches to it."""
        self.turn_id = request.turn_id
        self.request = request
        self.began_at: SessionCursor | None = None
        self._token = request.cancel
        self._observed = runtime.cell.observed
        # Nothing was accepted by this caller: it waits in line, or for whoever runs the turn.
        self._in_line = True
        self._leaves = False
        self._is_attached = False
        self._watchers: WeakSet[TurnWatcher] | None = None
        self._task: OwnedTask[TurnResult] = runtime.env.tasks.start(
            self._finish(runtime, request) if left else self._run(runtime, request, sink),
            name=f"lash-turn-{request.turn_id}",
        )
        runtime.env.turns.register(runtime.session_id, self)

    @property
    def is_over(self) -> bool:
        return self._task.task.done()

    @property
    def is_cancelled(self) -> bool:
        return self._token.is_cancelled

    @property
    def is_attached(self) -> bool:
        """Whether another caller or process runs the turn: to leave it loses nothing."""
        return self._is_attached

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
            return await self._run_or_attach(runtime, request, sink)
        finally:
            runtime.env.turns.forget(runtime.session_id, self)
            if use is not None:
                await use.end()

    async def _finish(self, runtime: LashRuntime, request: TurnRequest) -> TurnResult:
        def begins() -> None:
            self._in_line = False
            self.began_at = end_of_log(self._observed)

        try:
            result = await finish_turn(runtime, self.turn_id, request=request, begins=begins)
        finally:
            runtime.env.turns.forget(runtime.session_id, self)
        if result is None:
            raise RuntimeFault(
                "turn_not_available", f"turn {self.turn_id!r} is over, or not to be finished here"
            )
        return result

    async def _run_or_attach(
        self, runtime: LashRuntime, request: TurnRequest, sink: TurnActivitySink | None
    ) -> TurnResult:
        while True:
            first = await self._first_of_same(runtime, request)
            if first is not None:
                reader = TurnReader(self._observed, first, runtime.env.ids)
                result = await self._attached(
                    runtime, result_of_first(runtime, first, reader, sink), first
                )
            else:
                try:
                    async with runtime.lane.turn():
                        if self._leaves:
                            # Its caller has left in the very step in which the line moved on.
                            await checkpoint()
                        self._in_line = False
                        self.began_at = end_of_log(self._observed)
                        return await TurnRun(runtime, request, sink).run()
                except TurnRunsElsewhere:
                    self._in_line = True
                result = await self._attached(
                    runtime, _result_from_elsewhere(runtime, self.turn_id)
                )
            if result is not None:
                return result

    async def _first_of_same(self, runtime: LashRuntime, request: TurnRequest) -> LiveTurn | None:
        """The same turn as this, if it was asked for before and is not over. Where nothing is
        stored a turn id that comes again is another turn."""
        if runtime.store is None:
            return None
        first = runtime.env.turns.find(runtime.session_id, self.turn_id)
        if first is None or first is self or runtime.replaces_history:
            return None
        return first if await is_same_turn(runtime, request, first.request) else None

    async def _attached(
        self,
        runtime: LashRuntime,
        waiting: Awaitable[TurnResult | None],
        first: LiveTurn | None = None,
    ) -> TurnResult | None:
        """Wait for whoever runs the turn. The token of this caller ends its wait, unless the turn
        is being cancelled anyway: then it gets the cancelled result."""
        loop = asyncio.get_running_loop()
        with anyio.CancelScope() as wait:

            def detach() -> None:
                if first is None or not first.is_cancelled:
                    wait.cancel()

            def wake() -> None:
                loop.call_soon_threadsafe(detach)

            withdraw = self._token.on_cancel(wake)
            self._is_attached = True
            try:
                return await waiting
            finally:
                self._is_attached = False
                withdraw()
        # Unless it was the session's deletion that has cancelled it, which is told so.
        await find_row(runtime, self.turn_id)
        raise RuntimeFault(
            "turn_detached",
            f"this caller of turn {self.turn_id!r} was cancelled, but another one runs the turn, "
            "and it goes on: attach to it, or ask for it again, to have its result",
        )


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

    def finish(self, runtime: LashRuntime, row: TurnRow) -> RunningTurn:
        """Finish a turn that another process has left, as one of this session's."""
        self._forget_finished()
        turn = RunningTurn(runtime, request_of_row(row), None, left=True)
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


async def _result_from_elsewhere(runtime: LashRuntime, turn_id: str) -> TurnResult | None:
    """What a turn that another owner runs comes to; `None` where it has to be asked for again:
    it was forgotten meanwhile, or its result takes the lane to be told."""
    row = await settled_row(runtime, turn_id, or_else=_never)
    if row is None or runtime.replaces_history:
        return None
    return await stored_result(runtime, row)


def _never() -> bool:
    return False
