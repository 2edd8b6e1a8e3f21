"""A few hundred submissions of the same few turns; `python -m races.run` makes ten thousand."""

from multiprocessing.context import ForkServerContext
from pathlib import Path

import anyio
import pytest

from crash.conftest import together
from lash_runtime.ports.storage import Storage
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from races.duplicates import Crowd, Told, faults, take_part, told_by, transcript

TURNS = [f"turn-{number}" for number in range(30)]


@pytest.mark.anyio
@pytest.mark.parametrize("impatient", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_each_turn_is_run_once_for_all_its_callers(
    tmp_path: Path, kind: str, impatient: float
) -> None:
    """Whoever of them leaves, and whenever: one model call, one answer, one question stored."""
    storage: Storage = MemoryStorage() if kind == "memory" else SqliteStorage(tmp_path / "a.db")
    crowd = Crowd(storage, "a", seed=1)
    await crowd.submit(TURNS, 10, impatient=impatient)
    told = crowd.told
    assert faults(TURNS, await transcript(storage), [told]) == []
    assert told.submissions >= 10 * len(TURNS)
    assert (told.refused, told.cancelled > 0) == (0, impatient > 0)


@pytest.mark.crash
@pytest.mark.parametrize("impatient", [0.0, 0.3])
@pytest.mark.parametrize("count", [2, 3])
def test_each_turn_is_run_once_for_all_processes(
    processes: ForkServerContext, tmp_path: Path, count: int, impatient: float
) -> None:
    """Whichever is first runs it, and the others wait for that one's answer."""
    database = tmp_path / "a.db"
    each = [(database, f"process-{number}", TURNS, 5, impatient, 1) for number in range(count)]
    crowds = [told_by(report) for report in together(processes, take_part, each)]
    said = anyio.run(transcript, SqliteStorage(database))
    assert faults(TURNS, said, crowds) == []


def test_the_check_can_fail() -> None:
    """What it looks for are two answers, a second model call, and a question said twice or not."""
    told = Told()
    told.answers["fine"] = {"yes"}
    told.answers["two answers"] = {"yes", "no"}
    told.answers["two calls"] = {"yes"}
    told.answers["said twice"] = {"yes"}
    told.calls.update(dict.fromkeys(told.answers, 1))
    told.calls["two calls"] += 1
    said = [*told.answers, "said twice"]
    found = faults([*told.answers, "lost"], said, [told])
    assert {line.partition(":")[0] for line in found} == {
        "two answers",
        "two calls",
        "said twice",
        "lost",
    }
