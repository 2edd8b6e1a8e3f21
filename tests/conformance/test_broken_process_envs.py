"""Stores of environments that break one rule, and the case that notices."""

from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from conformance.breaking import passes
from lash_runtime.stores.memory import MemoryStorage

pytestmark = pytest.mark.anyio


class Broken:
    """The environments of a memory storage, of which one call goes wrong."""

    def __init__(self, intact: Any) -> None:
        self.intact = intact
        self.durability_tier = intact.durability_tier

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        await self.intact.put_process_execution_env(env_ref, content)

    async def get_process_execution_env(self, env_ref: str) -> bytes | None:
        content: bytes | None = await self.intact.get_process_execution_env(env_ref)
        return content


class KeepsTheFirst(Broken):
    """A ref is bound for good."""

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        if await self.intact.get_process_execution_env(env_ref) is None:
            await super().put_process_execution_env(env_ref, content)


class TakesNothingForEmpty(Broken):
    """What nobody has put is an empty environment."""

    async def get_process_execution_env(self, env_ref: str) -> bytes | None:
        return await super().get_process_execution_env(env_ref) or b""


class TakesEmptyForNothing(Broken):
    """An empty environment is one that nobody has put."""

    async def get_process_execution_env(self, env_ref: str) -> bytes | None:
        return await super().get_process_execution_env(env_ref) or None


class RemovesWhatIsShared(Broken):
    """The bytes that a ref led to go with it, whoever else named them."""

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        before = await self.intact.get_process_execution_env(env_ref)
        for ref in ("one", "two", "three"):
            if before is not None and await self.intact.get_process_execution_env(ref) == before:
                await super().put_process_execution_env(ref, b"gone")
        await super().put_process_execution_env(env_ref, content)


class CutsRefs(Broken):
    """Refs are as long as the column is wide."""

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        await super().put_process_execution_env(env_ref[:1], content)

    async def get_process_execution_env(self, env_ref: str) -> bytes | None:
        return await super().get_process_execution_env(env_ref[:1])


class FoldsCase(Broken):
    """Refs are compared as a file system would."""

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        await super().put_process_execution_env(env_ref.lower(), content)

    async def get_process_execution_env(self, env_ref: str) -> bytes | None:
        return await super().get_process_execution_env(env_ref.lower())


class WritesInPieces(Broken):
    """Whoever looks at the wrong moment finds the first half."""

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        await super().put_process_execution_env(env_ref, content[: len(content) // 2])
        await checkpoint()
        await super().put_process_execution_env(env_ref, content)


class KeepsText(Broken):
    """An environment is taken for JSON text."""

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        text = content.decode("utf-8", "replace")
        await super().put_process_execution_env(env_ref, text.encode())


class NeverCloses(Broken):
    """A closed storage has no environments, and takes more of them."""

    def __init__(self, intact: Any) -> None:
        super().__init__(intact)
        self.kept: dict[str, bytes] = {}

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        self.kept[env_ref] = content

    async def get_process_execution_env(self, env_ref: str) -> bytes | None:
        return self.kept.get(env_ref)


class WithBrokenEnvs:
    """The memory storage, with its environments exchanged for broken ones."""

    def __init__(self, broken: type[Broken]) -> None:
        self._intact = MemoryStorage()
        self.process_env_store = broken(self._intact.process_env_store)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intact, name)


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (KeepsTheFirst, "test_what_is_put_last_is_kept"),
        (KeepsTheFirst, "test_refs_with_equal_bytes_stay_two"),
        (TakesNothingForEmpty, "test_a_ref_that_nothing_was_put_under_leads_nowhere"),
        (TakesEmptyForNothing, "test_a_ref_that_nothing_was_put_under_leads_nowhere"),
        (TakesEmptyForNothing, "test_an_environment_comes_back_as_it_was"),
        (RemovesWhatIsShared, "test_refs_with_equal_bytes_stay_two"),
        (WritesInPieces, "test_of_many_that_put_at_once_one_is_last"),
        (WritesInPieces, "test_a_cancelled_put_happened_or_did_not"),
        (CutsRefs, "test_any_text_can_be_a_ref"),
        (FoldsCase, "test_a_ref_that_nothing_was_put_under_leads_nowhere"),
        (KeepsText, "test_an_environment_comes_back_as_it_was"),
        (NeverCloses, "test_environments_of_a_closed_storage_cannot_be_had"),
    ],
)
async def test_a_broken_store_of_environments_is_caught(broken: type[Broken], case: str) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    assert await passes(case, MemoryStorage)
    assert not await passes(case, lambda: WithBrokenEnvs(broken))
