"""The memory store and the SQLite store side by side: the same calls, the same answers.

What every machine that plays to both of them has in common: opening them, fences, and time.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from conformance.side_by_side import Pair, Side, owners, recent
from lash_runtime.ports.leases import SessionExecutionLeaseFence
from lash_runtime.ports.storage import Storage
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import ManualClock

HISTORIES = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class TwoStores(RuleBasedStateMachine):
    """Plays the same history to both stores."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.owners = owners()
        self.memory = Side(self.a_memory_storage(), self.clock, seed=1)
        self.sqlite = Side(self.a_sqlite_storage(), self.clock, seed=2)
        self.fences: list[Pair] = []

    def a_memory_storage(self) -> Storage:
        return MemoryStorage()

    def a_sqlite_storage(self) -> SqliteStorage:
        return SqliteStorage(self.place / "agents.db", synchronous="normal")

    def teardown(self) -> None:
        self.runner.run(self.sqlite.storage.aclose())
        self.runner.close()
        shutil.rmtree(self.place)

    def both(self, call: Callable[[Side], Awaitable[Any]]) -> tuple[Any, Any]:
        """Make a call on both, and see that it ends alike."""

        async def ask() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
            return await self.memory.answer(call), await self.sqlite.answer(call)

        (memory, shown_by_memory), (sqlite, shown_by_sqlite) = self.runner.run(ask())
        assert shown_by_memory == shown_by_sqlite
        return memory, sqlite

    def remember(self, memory: Any, sqlite: Any) -> None:
        """Keep the fence of any lease that an answer shows, held or observed."""
        for name in ("lease", "holder"):
            if hasattr(memory, name):
                self.fences.append(
                    Pair(getattr(memory, name).fence(), getattr(sqlite, name).fence())
                )

    def fence(self, side: Side, ago: int | Pair) -> SessionExecutionLeaseFence:
        pair = ago
        if isinstance(pair, int):
            pair = self.fences[max(-1 - pair, -len(self.fences))]
        return pair.memory if side is self.memory else pair.sqlite

    def live_pair(self, session_id: str, owner: int) -> Pair:
        """The fence that backs a write of that session now."""
        self.remember(
            *self.both(
                lambda side: side.stores[session_id].try_claim_session_execution_lease(
                    session_id, self.owners[owner], 3_000
                )
            )
        )
        return self.fences[-1]

    def pair(self, session_id: str, owner: int, ago: int | None) -> Pair:
        if ago is None or not self.fences:
            return self.live_pair(session_id, owner)
        return self.fences[max(-1 - ago, -len(self.fences))]

    @initialize()
    def open_both(self) -> None:
        self.runner.run(self.memory.open())
        self.runner.run(self.sqlite.open())

    @rule(seconds=st.sampled_from((0.001, 1, 2)))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def the_database_is_opened_again(self) -> None:
        self.runner.run(self.sqlite.storage.aclose())
        self.sqlite.storage = self.a_sqlite_storage()
        self.sqlite.seed += 1
        self.runner.run(self.sqlite.open())

    @precondition(lambda self: self.fences)
    @rule(ago=recent)
    def release(self, ago: int) -> None:
        self.both(
            lambda side: side.stores["one"].release_session_execution_lease(self.fence(side, ago))
        )
