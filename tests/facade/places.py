"""Cores as a host builds them, over each storage, and a check that none leaves a task behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from lash_runtime import FunctionTool, LashCore, LashCoreBuilder
from lash_runtime.effects.inline import InlineEffectHost
from lash_runtime.ports.provider import Provider
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage


class Place:
    """One kind of storage. Cores that are built on it one after another find what was stored.

    `inline` is SQLite without a journal, `sqlite` with it.
    """

    def __init__(self, kind: str, database: Path) -> None:
        self.kind = kind
        self.database = database
        self._memory = MemoryStorage()

    @property
    def stores(self) -> bool:
        return self.kind != "nothing"

    def storage(self) -> MemoryStorage | SqliteStorage:
        return self._memory if self.kind == "memory" else SqliteStorage(self.database)

    def builder(self, provider: Provider, *tools: FunctionTool) -> LashCoreBuilder:
        """A complete builder; a test changes what it is about."""
        builder = LashCore.standard_builder().provider(provider).model("scripted-1").tools(*tools)
        if self.kind == "inline":
            builder = builder.effect_host(InlineEffectHost())
        if self.stores:
            return builder.storage(self.storage())
        return builder.effect_host(InlineEffectHost()).attachment_store(MemoryStorage().attachments)


_running: list[LashCore] = []


@asynccontextmanager
async def running(core: LashCore) -> AsyncIterator[LashCore]:
    """Enter `core`; when it is closed, and no other is open, none of their tasks may be left."""
    before = asyncio.all_tasks()
    _running.append(core)
    try:
        async with core:
            yield core
    finally:
        _running.remove(core)
    if not _running:
        assert [task for task in asyncio.all_tasks() - before if _is_ours(task)] == []


def _is_ours(task: "asyncio.Task[object]") -> bool:
    return task.get_name().startswith("lash-")


def a_core(
    place: Place, provider: Provider, *tools: FunctionTool
) -> "AbstractAsyncContextManager[LashCore]":
    return running(place.builder(provider, *tools).build())
