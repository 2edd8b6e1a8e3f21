"""Environments of processes: bytes under refs, which belong to no session."""

from typing import Final

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ...ports.process_env import ProcessExecutionEnvStore
from ...ports.storage import Storage
from ...ports.store_errors import StoreBackendError
from ._case import StorageCase
from ._raises import raised_by
from ._samples import ODD_IDS, a_commit, a_store, hold
from .checkpoints import FULL
from .durable import DurableStorageConformance, OpenStorage

CONTENTS: Final = (
    b"",
    b'{"plugin_options":{},"policy":{}}',
    bytes(range(256)),
    b"\x00" * 5_000,
    bytes(range(256)) * 2_000,
)
"""Nothing, JSON, anything, much that could be made small, and much that is long to hash."""

REF: Final = f"process-env:sha256:{'a' * 64}"


class ProcessEnvConformance(StorageCase):
    """A ref leads to what was put under it last, whatever other refs lead to.

    For a store that is no part of a storage, override the fixture `process_envs`.
    """

    @pytest.fixture
    def process_envs(self, storage: Storage) -> ProcessExecutionEnvStore:
        """A new, empty store of environments."""
        return storage.process_env_store

    async def test_an_environment_comes_back_as_it_was(
        self, process_envs: ProcessExecutionEnvStore
    ) -> None:
        """Byte by byte, whatever form it takes in the store."""
        for at, content in enumerate(CONTENTS):
            await process_envs.put_process_execution_env(f"env {at}", content)
        for at, content in enumerate(CONTENTS):
            assert await process_envs.get_process_execution_env(f"env {at}") == content

    async def test_a_ref_that_nothing_was_put_under_leads_nowhere(
        self, process_envs: ProcessExecutionEnvStore
    ) -> None:
        """An empty environment is another thing."""
        assert await process_envs.get_process_execution_env(REF) is None
        await process_envs.put_process_execution_env(REF, b"")
        assert await process_envs.get_process_execution_env(REF) == b""
        assert await process_envs.get_process_execution_env(REF.upper()) is None

    async def test_what_is_put_last_is_kept(self, process_envs: ProcessExecutionEnvStore) -> None:
        """Also when it was there before, and when nothing changes."""
        for content in (b"one", b"two", b"two", b"one", b""):
            await process_envs.put_process_execution_env(REF, content)
            assert await process_envs.get_process_execution_env(REF) == content

    async def test_refs_with_equal_bytes_stay_two(
        self, process_envs: ProcessExecutionEnvStore
    ) -> None:
        """What one of them is given then, and what goes with that, is nothing to the other."""
        for ref in ("one", "two", "three"):
            await process_envs.put_process_execution_env(ref, b"shared")
        await process_envs.put_process_execution_env("one", b"own")
        await process_envs.put_process_execution_env("three", b"own")
        assert await process_envs.get_process_execution_env("one") == b"own"
        assert await process_envs.get_process_execution_env("two") == b"shared"
        await process_envs.put_process_execution_env("one", b"shared")
        assert await process_envs.get_process_execution_env("three") == b"own"

    async def test_any_text_can_be_a_ref(self, process_envs: ProcessExecutionEnvStore) -> None:
        """Refs that look like paths, SQL or each other are only names, however long."""
        for ref in ODD_IDS:
            await process_envs.put_process_execution_env(ref, ref.encode())
        for ref in ODD_IDS:
            assert await process_envs.get_process_execution_env(ref) == ref.encode()

    async def test_of_many_that_put_at_once_one_is_last(
        self, process_envs: ProcessExecutionEnvStore
    ) -> None:
        """Whoever looks meanwhile finds one of the contents, whole."""
        contents = [bytes([at]) * 10_000 for at in range(8)]
        found: list[bytes | None] = []
        await process_envs.put_process_execution_env(REF, contents[0])

        async def look() -> None:
            for _ in range(8):
                found.append(await process_envs.get_process_execution_env(REF))
                await checkpoint()

        async with anyio.create_task_group() as tasks:
            for content in contents:
                tasks.start_soon(process_envs.put_process_execution_env, REF, content)
                tasks.start_soon(look)
        await look()
        assert set(found) <= set(contents)
        assert len(set(found[-8:])) == 1

    async def test_a_cancelled_put_happened_or_did_not(
        self, process_envs: ProcessExecutionEnvStore
    ) -> None:
        """The ref leads to what it led to or to what was put, and the store goes on."""
        for steps in range(10):
            await process_envs.put_process_execution_env(REF, b"before")
            async with anyio.create_task_group() as puts:
                puts.start_soon(process_envs.put_process_execution_env, REF, b"after")
                for _ in range(steps):
                    await checkpoint()
                puts.cancel_scope.cancel()
            assert await process_envs.get_process_execution_env(REF) in (b"before", b"after")

    async def test_environments_are_no_sessions(
        self, storage: Storage, process_envs: ProcessExecutionEnvStore
    ) -> None:
        """Neither upkeep nor the end of a session takes one, and equal bytes in a session's own
        state are another's."""
        await process_envs.put_process_execution_env(REF, b"the same")
        state = FULL.execution_state
        assert state is not None
        await process_envs.put_process_execution_env("state", state)
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, checkpoint=FULL))
        await store.vacuum()
        await store.gc_unreachable()
        await storage.session_stores.delete_session("s")
        assert await process_envs.get_process_execution_env(REF) == b"the same"
        assert await process_envs.get_process_execution_env("state") == state

    async def test_environments_of_a_closed_storage_cannot_be_had(
        self, storage: Storage, process_envs: ProcessExecutionEnvStore
    ) -> None:
        """It says so, instead of that there are none."""
        await process_envs.put_process_execution_env(REF, b"kept")
        await storage.aclose()
        await raised_by(process_envs.get_process_execution_env(REF), StoreBackendError)
        await raised_by(process_envs.put_process_execution_env(REF, b""), StoreBackendError)


class DurableProcessEnvConformance(StorageCase):
    """Each call of `storage_factory` must give a new storage over one and the same place."""

    open_storage = DurableStorageConformance.open_storage

    async def test_environments_outlive_their_storage(self, open_storage: OpenStorage) -> None:
        """A process is restarted by whoever comes next, with what it was started with."""
        storage = await open_storage()
        for at, content in enumerate(CONTENTS):
            await storage.process_env_store.put_process_execution_env(f"env {at}", content)
        await storage.aclose()
        again = (await open_storage()).process_env_store
        for at, content in enumerate(CONTENTS):
            assert await again.get_process_execution_env(f"env {at}") == content

    async def test_two_storages_share_their_environments(self, open_storage: OpenStorage) -> None:
        """What one has put the other has, and in whose place it was put does not matter."""
        here, there = [(await open_storage()).process_env_store for _ in range(2)]
        await here.put_process_execution_env(REF, b"one")
        assert await there.get_process_execution_env(REF) == b"one"
        await there.put_process_execution_env("another", b"one")
        await there.put_process_execution_env(REF, b"two")
        assert await here.get_process_execution_env(REF) == b"two"
        assert await here.get_process_execution_env("another") == b"one"
