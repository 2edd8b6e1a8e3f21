"""Places where images can be kept: each storage that ships, with and without files beside it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from facade.places import Place
from lash_runtime import FunctionTool, LashCoreBuilder
from lash_runtime.attachments import FileAttachmentStore
from lash_runtime.ports.attachments import SweepableAttachmentStore
from lash_runtime.ports.provider import Provider
from lash_runtime.stores.sqlite import SqliteStorage


class Album(Place):
    """A place whose images may be in files of their own."""

    def __init__(self, kind: str, folder: Path) -> None:
        kind, _, self._files = kind.partition("+")
        super().__init__(kind, folder / "agents.db")
        self.root = folder / "images"

    def builder(self, provider: Provider, *tools: FunctionTool) -> LashCoreBuilder:
        builder = super().builder(provider, *tools)
        if self._files:
            return builder.attachment_store(FileAttachmentStore(self.root))
        return builder

    @asynccontextmanager
    async def another_store(self) -> AsyncIterator[SweepableAttachmentStore]:
        """The place where a core keeps its images, as another process would open it."""
        if self._files:
            yield FileAttachmentStore(self.root)
        elif self.kind == "memory":
            yield self._memory.attachments
        else:
            async with SqliteStorage(self.database) as storage:
                yield storage.attachments


@pytest.fixture(params=["memory", "sqlite", "sqlite+files"])
def album(request: pytest.FixtureRequest, tmp_path: Path) -> Album:
    return Album(request.param, tmp_path)


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[[str], Album]:
    return lambda kind: Album(kind, tmp_path)
