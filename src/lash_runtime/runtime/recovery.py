"""Finishes the turns that other processes have left, while a core is open.

One task looks for unfinished turns: when the core starts, when a lease that is in the way may have
lapsed, and when it is told to look. It sleeps in between, and for good while nothing is
unfinished. Each turn is finished in a task of its own, a few at a time.

Rule 1: a turn is left alone while its owner lives, and while this core uses its session itself.
Rule 2: a turn that this core lacks the wiring for is left for one that has it.
Rule 3: one turn for each session at a time, those that have waited longest first; a session whose
turn cannot be finished just now waits longer each time and holds up nobody else.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import anyio

from ..model.records import dataclass, replace
from ..ports.clock import Clock
from ..ports.leases import LeaseOwnerIdentity
from ..ports.storage import SessionStoreFactory
from ..ports.store_errors import StoreError
from ..ports.turn_ledger import RequiredWiring, StoredUnfinishedTurn, TurnState
from ..stores.local_process import proven_dead
from .faults import RuntimeFault
from .lanes import SessionLanes
from .recovery_bell import RecoveryBell
from .tasks import OwnedTask, TaskOwner

log = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""How many turns are finished side by side."""

PAGE: Final = 1_000

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
"""How long a turn that could not be finished is left alone: twice as long each time."""


@dataclass(frozen=True, slots=True)
class _Pause:
    """A session that is left alone until `until`, on the clock that only goes forward."""

    until: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedTurn:
    """A turn that was accepted and is not over.

    `held_by` is the owner that runs it, as far as its lease says; `missing` is what this core
    would need to finish it. A turn that is not `journaled` is not finished: it is closed as
    interrupted when its session is next used.
    """

    session_id: str
    turn_id: str
    state: TurnState
    accepted_at_ms: int
    attempt: int
    journaled: bool
    held_by: str | None
    missing: tuple[str, ...]


class RecoveryDriver:
    """The recovery of one core. Runs from `start` until its task owner is closed."""

    def __init__(
        self,
        *,
        stores: SessionStoreFactory,
        clock: Clock,
        tasks: TaskOwner,
        lanes: SessionLanes,
        owner: LeaseOwnerIdentity,
        missing: Callable[[RequiredWiring], tuple[str, ...]],
        finish: Callable[[StoredUnfinishedTurn], Awaitable[None]],
    ) -> None:
        """`missing` says what of a turn's wiring the core does not have; `finish` finishes one,
        and raises `RuntimeFault` where that fails."""
        self._stores = stores
        self._clock = clock
        self._tasks = tasks
        self._lanes = lanes
        self._owner = owner
        self._missing = missing
        self._finish = finish
        self._poked = asyncio.Event()
        self._running: dict[str, OwnedTask[None]] = {}
        self._pauses: dict[str, _Pause] = {}

    def start(self, bell: RecoveryBell) -> None:
        bell.heard = self.poke
        self._tasks.start(self._run(), name="lash-recovery")

    def poke(self) -> None:
        """Look again soon. From the loop of the core; free of cost when nothing has changed."""
        self._poked.set()

    async def _run(self) -> None:
        while True:
            self._poked.clear()
            try:
                due = await self._look()
            except StoreError as error:
                log.warning("unfinished turns could not be looked for, trying again: %s", error)
                due = self._clock.now() + FIRST_PAUSE_S
            await self._poked_or(due)

    async def _look(self) -> float | None:
        """Start what can be finished now. Returns when to look again; `None` for not before
        being told to."""
        due: list[float] = []
        ready: list[StoredUnfinishedTurn] = []
        for turn in await self._first_of_each_session():
            if not turn.journaled or self._missing(turn.required_wiring):
                continue
            at = self._free_at(turn)
            if at is None:
                continue
            if at <= self._clock.now():
                ready.append(turn)
            else:
                due.append(at)
        ready.sort(key=lambda turn: turn.accepted_at_ms)
        for turn in ready[: max(0, AT_ONCE - len(self._running))]:
            self._begin(turn)
        return min(due, default=None)

    async def _first_of_each_session(self) -> Sequence[StoredUnfinishedTurn]:
        found: dict[str, StoredUnfinishedTurn] = {}
        async for turn in all_unfinished(self._stores):
            found.setdefault(turn.session_id, turn)
        return list(found.values())

    def _free_at(self, turn: StoredUnfinishedTurn) -> float | None:
        """When the turn may be begun, on the forward clock; `None` for when something changes."""
        now = self._clock.now()
        if turn.session_id in self._running or self._lanes.lane(turn.session_id).busy:
            return None  # and whoever uses it now finishes it first, or pokes
        pause = self._pauses.get(turn.session_id)
        if pause is not None and pause.until > now:
            return pause.until
        lease = turn.lease
        left_ms = 0 if lease is None else lease.expires_at_epoch_ms - self._clock.timestamp_ms()
        if lease is None or left_ms <= 0 or proven_dead(lease.owner, self._owner):
            return now
        return now + left_ms / 1000

    def _begin(self, turn: StoredUnfinishedTurn) -> None:
        session_id = turn.session_id
        task = self._tasks.start(self._finish_one(turn), name=f"lash-recover-{turn.turn_id}")
        self._running[session_id] = task

        def over(_: object) -> None:
            self._running.pop(session_id, None)
            self.poke()

        task.task.add_done_callback(over)

    async def _finish_one(self, turn: StoredUnfinishedTurn) -> None:
        try:
            await self._finish(turn)
            self._pauses.pop(turn.session_id, None)
        except (RuntimeFault, StoreError) as error:
            self._pause(turn.session_id)
            log.warning(
                "turn %r of session %r was not finished: %s", turn.turn_id, turn.session_id, error
            )

    def _pause(self, session_id: str) -> None:
        last = self._pauses.get(session_id, _Pause(0.0, FIRST_PAUSE_S / 2))
        seconds = min(last.seconds * 2, LONGEST_PAUSE_S)
        self._pauses[session_id] = replace(last, until=self._clock.now() + seconds, seconds=seconds)

    async def _poked_or(self, due: float | None) -> None:
        if due is None:
            await self._poked.wait()
            return
        async with anyio.create_task_group() as either:

            async def then_poke() -> None:
                await self._clock.sleep_until(due)
                self.poke()

            either.start_soon(then_poke)
            await self._poked.wait()
            either.cancel_scope.cancel()


async def all_unfinished(stores: SessionStoreFactory) -> AsyncIterator[StoredUnfinishedTurn]:
    """Every unfinished turn of a storage, by session, oldest first; read page by page."""
    after: StoredUnfinishedTurn | None = None
    while True:
        page = await stores.list_unfinished_turns(after=after, limit=PAGE)
        for turn in page:
            yield turn
        if len(page) < PAGE:
            return
        after = page[-1]


def as_seen(turn: StoredUnfinishedTurn, missing: tuple[str, ...], now_ms: int) -> UnfinishedTurn:
    lease = turn.lease
    return UnfinishedTurn(
        session_id=turn.session_id,
        turn_id=turn.turn_id,
        state=turn.state,
        accepted_at_ms=turn.accepted_at_ms,
        attempt=turn.attempt,
        journaled=turn.journaled,
        held_by=None if lease is None or lease.lapsed(now_ms) else lease.owner.owner_id,
        missing=missing,
    )
