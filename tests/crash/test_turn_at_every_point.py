"""A whole turn, cut off by death at any statement of the database or inside any write."""

import asyncio
import random
import sys
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash import workload
from crash.conftest import ask
from crash.dying import Death, watched_process
from crash.lives import to_its_death

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform != "linux", reason="death is proven from /proc"),
]

FILES = 3
KILLS_PER_FILE = 8
TORN_PER_FILE = 2


def run_one_turn(database: Path, turn_id: str, death: Death, report: Connection) -> None:
    asyncio.run(_run_one_turn(database, turn_id, death, report))


async def _run_one_turn(database: Path, turn_id: str, death: Death, report: Connection) -> None:
    """Open the session, run one turn and close, in danger all the time."""
    reaper = watched_process()
    log = database.with_name(f"{database.name}-wal")
    with reaper.danger(death, log.stat().st_size if log.exists() else 0):
        core = workload.core_over(database, turn_id)
        async with core, core.session(workload.SESSION) as session:
            output = await session.turn(turn_id).turn_id(turn_id).run()
            assert output.assistant_message == f"answer to {turn_id}"
            report.send(("answered", log.stat().st_size))
    report.send(("survived", reaper.passed))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(FILES))
def test_a_turn_that_is_cut_off_at_any_statement_is_there_once_or_closed(
    processes: ForkServerContext, tmp_path: Path, seed: int
) -> None:
    """Acceptance, the rounds and the final commit leave nothing half done between them."""
    database, chance = tmp_path / "agents.db", random.Random(seed)
    acknowledged: list[str] = []
    # Once to make the file, once to see what a turn passes.
    to_its_death(processes, run_one_turn, (database, "first"), Death())
    _, said = to_its_death(processes, run_one_turn, (database, "whole"), Death())
    (_, growth), (_, points) = said
    killed = 0
    deaths = [Death(point=chance.randint(1, points)) for _ in range(KILLS_PER_FILE)]
    deaths += [Death(growth=chance.randrange(growth)) for _ in range(TORN_PER_FILE)]
    for life, death in enumerate(deaths):
        turn_id = f"t{seed}.{life}"
        died, said = to_its_death(processes, run_one_turn, (database, turn_id), death)
        killed += died
        if said:
            acknowledged.append(turn_id)
        found = ask(processes, workload.look_after_kill, database, turn_id)
        acknowledged.append(f"{turn_id}-after")
        assert found.error == ""
        assert found.usable_at_once
        assert found.resumable
        assert found.unanswered_but_settled == []
        assert [t for t in acknowledged[:-1] if found.answers.get(f"answer to {t}") != 1] == []
        assert [t for t, times in found.user_texts.items() if times > 1] == []
        assert [t for t, times in found.answers.items() if times > 1] == []
    assert killed >= KILLS_PER_FILE
