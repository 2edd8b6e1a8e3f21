"""What a backend disclaims has to be true: each of those cases can fail, too."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from conformance.breaking import BrokenStorage, Wrapped, passes
from conformance.test_without_manifest import PlainStorage
from lash_runtime.ports.commit import RuntimeCommit, RuntimeCommitResult
from lash_runtime.ports.persistence import RuntimePersistence
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage

pytestmark = pytest.mark.anyio


class NeverForgets(Wrapped):
    """A state that was superseded can be had for ever, whatever is collected."""

    def __init__(self, intact: RuntimePersistence) -> None:
        super().__init__(intact)
        self.states: dict[str | None, bytes] = {}

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        given = commit.checkpoint
        if given.execution_state is None:
            state = self.states.get(given.execution_state_ref)
            given = replace(given, execution_state=state)
        result: RuntimeCommitResult = await self.intact.commit_runtime_state(
            replace(commit, checkpoint=given)
        )
        if given.execution_state is not None:
            self.states[result.manifest.execution_state_ref] = given.execution_state
        return result


def sqlite() -> SqliteStorage:
    return SqliteStorage(":memory:")


@pytest.mark.parametrize(
    ("intact", "broken", "case"),
    [
        (sqlite, MemoryStorage, "test_collection_counts_what_it_follows_and_keeps"),
        (MemoryStorage, sqlite, "test_a_store_that_collects_nothing_says_so"),
        (
            sqlite,
            lambda: BrokenStorage(NeverForgets),
            "test_collection_removes_what_was_superseded",
        ),
        (PlainStorage, MemoryStorage, "test_a_manifest_that_keeps_nothing_lists_nothing"),
        (MemoryStorage, sqlite, "test_a_store_without_a_journal_does_not_claim_one"),
    ],
)
async def test_a_disclaimer_that_is_not_true_is_caught(
    intact: Callable[[], Any], broken: Callable[[], Any], case: str
) -> None:
    """Who says that it does not collect, and counts, misleads whoever reads the report."""
    assert await passes(case, intact)
    assert not await passes(case, broken)
