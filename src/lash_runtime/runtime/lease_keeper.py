"""Keeps the leases of running turns alive.

One task renews all leases of a core and exists only while there are any. A lease is lost when
the store says so, or when its own expiry passes without a renewal; any other failure of a
renewal is tried again on the next tick. A renewal also tells of a request to cancel the turn, which
another process has written.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from ..model.cancelling import CancelRequest
from ..ports.clock import Clock
from ..ports.leases import LeaseTimings, SessionExecutionLease, SessionExecutionLeaseFence
from ..ports.store_errors import (
    SessionExecutionLeaseExpired,
    StoredSessionDeleted,
    StoreError,
)
from ..ports.turn_persistence import SessionExecutionLeaseStore
from .faults import LeaseLost, SessionIsDeleted
from .lease_events import LeaseEvent, tell
from .tasks import OwnedTask, TaskOwner

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class LeaseGuard:
    """One held lease. `on_lost` is called once, when it turns out to be lost; `deleted` says
    that the session went with it. `on_cancel` is called with a request at each renewal that tells
    of it."""

    store: SessionExecutionLeaseStore
    lease: SessionExecutionLease
    on_lost: Callable[[], None]
    on_cancel: Callable[[CancelRequest], object]
    clock: Clock
    lost: bool = False
    deleted: bool = False
    renew_at: float = field(default=0.0)

    def fence(self) -> SessionExecutionLeaseFence:
        return self.lease.fence()

    def ensure_held(self) -> None:
        """Raise `LeaseLost` or `SessionIsDeleted` if the lease is known to be gone.

        A process that was suspended learns it here before the first renewal that it is late for.
        """
        if self.deleted:
            raise SessionIsDeleted(self.lease.session_id)
        if self.lease.lapsed(self.clock.timestamp_ms()):
            self.mark_lost()
        if self.lost:
            raise LeaseLost(self.lease.session_id)

    def mark_lost(self) -> None:
        if not self.lost:
            self.lost = True
            tell(LeaseEvent.LOST, self.fence())
            self.on_lost()


class LeaseKeeper:
    """Renews every guarded lease of a core, all from one task."""

    def __init__(self, *, timings: LeaseTimings, clock: Clock, tasks: TaskOwner) -> None:
        self.timings = timings
        self._clock = clock
        self._tasks = tasks
        self._guards: set[LeaseGuard] = set()
        self._task: OwnedTask[None] | None = None

    def guard(
        self,
        store: SessionExecutionLeaseStore,
        lease: SessionExecutionLease,
        on_lost: Callable[[], None],
        on_cancel: Callable[[CancelRequest], object],
    ) -> LeaseGuard:
        """Renew `lease` until the guard is released."""
        guard = LeaseGuard(store, lease, on_lost, on_cancel, self._clock)
        guard.renew_at = self._clock.now() + self._interval_s
        self._guards.add(guard)
        idle = self._task is None or self._task.task.done()
        # While the core closes, what still runs is about to end: nothing is left to renew.
        if idle and not self._tasks.closed:
            self._task = self._tasks.start(self._renew_for_ever(), name="lash-lease-keeper")
        return guard

    def release(self, guard: LeaseGuard) -> None:
        """Stop renewing. The lease itself is given back by whoever held it."""
        self._guards.discard(guard)

    @property
    def _interval_s(self) -> float:
        return self.timings.renew_interval_ms / 1000

    async def _renew_for_ever(self) -> None:
        # Leases begin at any time and every one is due a whole interval after that, so the
        # earliest is due no sooner than this sleep ends. The task outlives its last guard by
        # one interval, which spares a busy core a new task for every turn.
        while True:
            due = min((guard.renew_at for guard in self._guards), default=None)
            if due is None:
                await self._clock.sleep(self._interval_s)
                if not self._guards:
                    return
                continue
            await self._clock.sleep_until(due)
            now = self._clock.now()
            async with anyio.create_task_group() as renewals:
                for guard in tuple(self._guards):
                    if guard.renew_at <= now:
                        renewals.start_soon(self._renew, guard)

    async def _renew(self, guard: LeaseGuard) -> None:
        try:
            renewed = await guard.store.renew_session_execution_lease(
                guard.fence(), self.timings.ttl_ms
            )
            guard.lease = renewed.lease
            tell(LeaseEvent.RENEWED, guard.fence())
            if renewed.cancel_request is not None:
                guard.on_cancel(renewed.cancel_request)
        except SessionExecutionLeaseExpired:
            self._lose(guard)
        except StoredSessionDeleted:
            guard.deleted = True
            self._lose(guard)
        except StoreError as error:
            log.warning(
                "lease of session %r could not be renewed, trying again: %s",
                guard.lease.session_id,
                error,
            )
            if guard.lease.lapsed(self._clock.timestamp_ms()):
                self._lose(guard)
        guard.renew_at = self._clock.now() + self._interval_s

    def _lose(self, guard: LeaseGuard) -> None:
        if guard in self._guards:
            guard.mark_lost()
