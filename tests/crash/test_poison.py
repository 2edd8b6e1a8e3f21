"""A turn that takes every process with it is stopped, and its session goes on."""

import sys
from itertools import pairwise
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash.accounts import UNKNOWN, Page
from crash.finishing import Place, poisoned, side_by_side
from crash.lifetimes import FINISHERS, RESUBMISSION, Found
from crash.long_turn import Script
from crash.outside import Snapshot

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform != "linux", reason="death is proven from /proc"),
]

MOST_DEATHS = 5
"""At one point, which is as long as nothing is put on record."""

SEED = next(
    seed
    for seed in range(100)
    if Script(seed).unknown["alone"] == Script(seed).unknown["retried"] == "rerun"
)
"""Of a turn in which these two may be run again."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "act",
    ["model:0", "model:1", "rerun-0:attempt:1", "alone-1:attempt:1", "retried-0:attempt:2"],
)
def test_a_turn_that_kills_every_process_is_stopped_where_it_does(
    processes: ForkServerContext, tmp_path: Path, act: str
) -> None:
    """What is on record is kept, every call has its result, and the next turn runs."""
    place = Place(processes, tmp_path)
    stories = [poisoned(place, SEED, act, finisher=finisher) for finisher in FINISHERS]
    for pages, found in side_by_side(stories, len(stories)):
        _stopped_in_time(pages)
        _closed(found, act.split(":")[0])


def _stopped_in_time(pages: list[Page]) -> None:
    *deaths, last = pages
    assert all(page.died for page in deaths)
    assert not last.died
    assert last.after.state == "committed"
    times = [deaths_without_progress(deaths[:number]) for number in range(1, len(deaths) + 1)]
    assert times[-1] == MOST_DEATHS
    assert max(times[:-1]) < MOST_DEATHS


def _closed(found: Found, call: str) -> None:
    assert found.problems == ()
    assert {answer.stop_reason for answer in found.answers} == {"runtime_error"}
    assert {answer.issues for answer in found.answers} == {("turn_attempts_exhausted",)}
    results = _results(found)
    assert sorted(results) == sorted(_calls(found))
    if call in results:
        assert UNKNOWN in results[call]
    assert found.words[-1].startswith("next ")


@pytest.mark.parametrize("act", ["report-0:attempt:1", "ask-1:attempt:1"])
def test_a_tool_that_is_not_run_again_kills_one_process_only(
    processes: ForkServerContext, tmp_path: Path, act: str
) -> None:
    """The model is told, and goes on."""
    place = Place(processes, tmp_path)
    [(pages, found)] = side_by_side([poisoned(place, SEED, act, finisher=RESUBMISSION)], 1)
    assert [page.died for page in pages] == [True, False]
    assert {answer.text for answer in found.answers} == {"All of it is done"}
    assert UNKNOWN in _results(found)[act.split(":")[0]]


def deaths_without_progress(deaths: list[Page]) -> int:
    """How many in a row there are at the end, the one that came after the last record included."""
    records = [_records(deaths[0].before), *(_records(page.after) for page in deaths)]
    changed = [after != before for before, after in pairwise(records)]
    newest = max((number for number, has in enumerate(changed) if has), default=0)
    return len(deaths) - newest


def _records(snapshot: Snapshot) -> int:
    return sum(entry.recorded for entry in snapshot.entries.values())


def _calls(found: Found) -> list[str]:
    return [
        str(call)
        for _, parts in found.messages
        for kind, _, call, _ in parts
        if kind == "tool_call"
    ]


def _results(found: Found) -> dict[str, str]:
    return {
        str(call): text
        for _, parts in found.messages
        for kind, text, call, _ in parts
        if kind == "tool_result"
    }
