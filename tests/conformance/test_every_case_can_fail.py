"""Every case of the storage suites notices at least one thing that a store can get wrong."""

import inspect
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from conformance.sabotage import FAULTS, Calls, Fault, WatchedStorage
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import FixedIdSource, ManualClock
from lash_runtime.testing.conformance import (
    DurableJournalConformance,
    DurableProcessEnvConformance,
    DurableQueueConformance,
    DurableStorageConformance,
    SignalsBetweenConformance,
    StorageConformance,
)

pytestmark = pytest.mark.anyio


class EveryCase(
    StorageConformance,
    DurableStorageConformance,
    DurableQueueConformance,
    DurableProcessEnvConformance,
    SignalsBetweenConformance,
    DurableJournalConformance,
):
    """All that a storage is held to."""


CASES: Final = sorted(name for name in dir(EveryCase) if name.startswith("test_"))

SHOWN_ELSEWHERE: Final = {
    # Not a call: below.
    "test_every_facet_declares_the_tier",
    # What is asked of a backend that does without something: test_broken_disclaimers.py.
    "test_a_manifest_that_keeps_nothing_lists_nothing",
    "test_a_store_that_collects_nothing_says_so",
    "test_a_store_without_a_journal_does_not_claim_one",
    "test_collection_counts_what_it_follows_and_keeps",
    "test_collection_removes_what_was_superseded",
    # No call of a store: test_broken_signals.py.
    "test_a_second_waiter_is_refused",
    "test_closing_ends_a_wait_and_may_be_repeated",
    "test_closing_the_storage_ends_every_wait",
    "test_iteration_is_one_look_after_the_other",
    "test_one_who_waits_is_woken_from_any_thread",
}
ASSERTIONS: Final = {"raised_by", "assert_busy", "assert_group"}
"""What cases have in common and assert by; other helpers only prepare."""

NEAR_ENOUGH_S: Final = 1
"""A fault that makes a case wait for ever has not been noticed by it."""


@asynccontextmanager
async def given_to(case: str, calls: Calls, place: Path) -> AsyncIterator[dict[str, Any]]:
    """The arguments of a case, over storages whose calls are counted."""
    clock = ManualClock()
    asked = inspect.signature(getattr(EveryCase, case)).parameters
    async with AsyncExitStack() as opened:

        async def open_storage() -> Any:
            intact: Any = MemoryStorage()
            if "open_storage" in asked:
                intact = SqliteStorage(place / "agents.db", synchronous="normal")
            elif "journaling" in asked:
                intact = SqliteStorage(":memory:")
            intact.bind(clock=clock, ids=FixedIdSource(len(calls.made)))
            await intact.open()
            opened.push_async_callback(intact.aclose)
            return WatchedStorage(intact, calls)

        given: dict[str, Any] = {"clock": clock, "disclaimed": (), "open_storage": open_storage}
        if "open_storage" not in asked:
            storage = await open_storage()
            given |= {
                "storage": storage,
                "journaling": storage,
                "attachments": storage.attachments,
                "sweepable": storage.attachments,
                "process_envs": storage.process_env_store,
                "references": storage.session_stores,
            }
        yield {name: given[name] for name in asked if name != "self"}


async def play(case: str, calls: Calls, place: Path) -> BaseException | None:
    """Play the case; what it ended with."""
    place.mkdir()
    try:
        async with given_to(case, calls, place) as given:
            with anyio.fail_after(NEAR_ENOUGH_S):
                await getattr(EveryCase(), case)(**given)
    except (Exception, pytest.fail.Exception) as error:
        return error
    return None


def is_noticed(error: BaseException | None, case: str) -> bool:
    """Whether the case itself says so, by its own assertion and not by a helper's."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_noticed(each, case) for each in error.exceptions)
    if not isinstance(error, AssertionError | pytest.fail.Exception):
        return False
    frames = [
        frame
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if "conformance" in Path(frame.f_code.co_filename).parent.name
    ]
    return bool(frames) and frames[-1].f_code.co_name in {case, *ASSERTIONS}


async def first_noticed(case: str, place: Path) -> tuple[int, Fault] | None:
    whole = Calls()
    assert await play(case, whole, place / "whole") is None
    runs = 0
    names = list(dict.fromkeys(reversed(whole.made)))
    numbers = list(reversed(range(len(whole.made))))
    # What is quick to try comes first: a call that goes wrong every time, in few ways.
    for at, faults in (
        *((name, FAULTS[:8]) for name in names),
        *((number, FAULTS) for number in numbers),
        *((name, FAULTS) for name in names),
    ):
        for fault in faults:
            runs += 1
            error = await play(case, Calls(at, fault), place / str(runs))
            if is_noticed(error, case):
                return at, fault
            if isinstance(error, IndexError):
                break
    return None


@pytest.mark.parametrize("case", [case for case in CASES if case not in SHOWN_ELSEWHERE])
async def test_a_case_notices_a_call_that_goes_wrong(case: str, tmp_path: Path) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    assert await first_noticed(case, tmp_path) is not None


async def test_a_storage_of_another_tier_than_it_says_is_noticed(tmp_path: Path) -> None:
    """Whoever believes it would lose what is gone with the process."""

    class Durable(EveryCase):
        durability_tier = DurabilityTier.DURABLE

    for suite, passes in ((EveryCase(), True), (Durable(), False)):
        storage = MemoryStorage()
        await storage.open()
        case = suite.test_every_facet_declares_the_tier
        if passes:
            await case(storage)
        else:
            with pytest.raises(AssertionError):
                await case(storage)
