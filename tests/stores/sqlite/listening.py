"""Two storages on one file, of which one listens to what the other commits."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from lash_runtime.ports.signals import SignalFilter, SignalKind, SignalSubscription, StoreSignal
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing.conformance._samples import a_store
from lash_runtime.testing.conformance.signals import free_the_lane

FREE = SignalFilter.of(SignalKind.LANE_FREE, session_id="s")
LANE_FREE = StoreSignal(SignalKind.LANE_FREE, "s")
NOBODYS = StoreSignal(SignalKind.LANE_FREE, "nobody listens to it")

PATIENCE_S = 10


@contextmanager
def a_temporary_directory() -> Iterator[Path]:
    """One that nobody else uses, with a path that a socket can have. Made after pytest's own."""
    with (
        tempfile.TemporaryDirectory(prefix="lash-test-") as place,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(tempfile, "tempdir", place)
        yield Path(place)


@asynccontextmanager
async def two_storages(path: Path) -> AsyncIterator[tuple[SqliteStorage, SqliteStorage]]:
    async with SqliteStorage(path) as here, SqliteStorage(path) as there:
        yield here, there


def root() -> Path:
    """Where this user's sockets are."""
    return Path(tempfile.gettempdir(), f"lash-{os.geteuid()}")


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.exists() else []


def sockets() -> list[Path]:
    return [path for path in everything_in(root()) if path.is_socket()]


def the_socket() -> Path:
    (found,) = sockets()
    return found


def the_folder(storage: SqliteStorage) -> Path:
    """Where the sockets of those who listen to its database are."""
    return Path(storage.signals._folder._located()[1])


async def heard(subscription: SignalSubscription) -> bool:
    """Whether it is told within a time that is long for a machine."""
    with anyio.move_on_after(PATIENCE_S):
        return await subscription.wait()
    return False


async def settled(subscription: SignalSubscription) -> None:
    """Wait for the look that follows the making of a socket."""
    assert await heard(subscription)


async def a_change(storage: SqliteStorage) -> None:
    """Something that listeners for free lanes are told by the store itself."""
    await free_the_lane(await a_store(storage))
