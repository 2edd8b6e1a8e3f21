"""Lives on one database, each ended by a death, and what must hold after every one of them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from crash import aftermath
from crash.aftermath import Found
from crash.calls import (
    CHORE_NODES,
    MARKED,
    OVER_NODES,
    SESSION,
    VICTIM,
    VICTIM_NODES,
    Extent,
    live_and_die,
)
from crash.conftest import REPORT_TIMEOUT_S, ask
from crash.dying import Death

MOST_LIVES_PER_DEATH = 3
"""A point that was drawn may not be passed, because the call does less in that life."""


@dataclass
class Ledger:
    """Everything that the processes were told is so, over all their lives."""

    queued: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    turns: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)
    environments: set[str | None] = field(default_factory=lambda: {None})
    signatures: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    def hears(self, what: str, *names: Any) -> None:
        match what, names:
            case "queued", (key,):
                self.queued.add(key)
            case "cancelled", (key,):
                self.cancelled.add(key)
            case "accepted", (turn_id,):
                self.turns.setdefault(turn_id, "accepted")
            case (("committed" | "failed"), (turn_id, *_)):
                self.turns[turn_id] = what
            case "held", (session_id, token):
                self.takes(session_id, token)
            case "added", (session_id, revision):
                self.revisions[session_id] = revision
            case "puts", (content,):
                self.environments.add(content)
            case "put", (content,):
                self.environments = {content}
            case "moved", (path,):
                self.moved.append(path)
            case "given", (name, signature):
                assert self.signatures.setdefault(name, signature) == signature
            case "answered", (name, status, payload):
                if status == "accepted":
                    assert name not in self.answers
                    self.answers[name] = payload
            case "backed up", (path,):
                self.copies.append(Path(path))

    def takes(self, session_id: str, token: int) -> None:
        """A lease was acquired: its token is larger than all before."""
        earlier = self.tokens.setdefault(session_id, [])
        assert token > max(earlier, default=0), (session_id, token, earlier)
        earlier.append(token)

    def agrees_with(self, found: Found) -> None:
        """What was acknowledged is there, whole and once; what was not is whole or not there."""
        assert found.problems == []
        # Each commit is all of its parts.
        assert found.revision == found.nodes == found.usage
        assert {key: times for key, times in found.done.items() if times > 1} == {}
        assert found.unreadable_attachments == []
        assert set(found.unsettled_attachments).isdisjoint(found.done)
        committed = {turn for turn, state in found.turns.items() if state == "committed"}
        assert committed == {word for word in found.done if word.startswith("t:")}
        if found.newest_state is not None:
            assert found.newest_state.removeprefix("n:") in {
                t.removeprefix("t:") for t in committed
            }
        # What waits is not done, and nothing holds it.
        assert set(found.waits).isdisjoint(found.done)
        assert sorted(found.claimable) == sorted(found.waits)
        # What was acknowledged is there.
        assert self.queued <= set(found.waits) | set(found.done)
        assert self.cancelled.isdisjoint({*found.waits, *found.done})
        for turn_id, told in self.turns.items():
            assert found.turns[turn_id] == told or told == "accepted", (turn_id, found.turns)
        for session_id, (revision, nodes, usage) in found.groups.items():
            assert revision == nodes == usage >= self.revisions.get(session_id, 0)
        assert [path for path in self.moved if not found.moved[path]] == []
        assert [path for path in self.copies if not path.exists()] == []
        assert found.broken_copies == []
        assert found.broken_new == []
        assert found.environment in self.environments
        assert found.unnamed_artifacts == 0
        for name, answered in self.answers.items():
            assert found.answers[name] == answered
        # Tokens only rise.
        self.takes(SESSION, found.token)
        for session_id, token in found.new_tokens.items():
            self.takes(session_id, token)

    def last_life_agrees_with(self, said: list[tuple[Any, ...]], found: Found) -> None:
        """What is gone was either acknowledged as gone, or is there in full."""
        told = [what for what, *_ in said]
        if "marked" in told:
            assert len(found.chores) == CHORE_NODES - MARKED
        if "vacuumed" in told:
            assert (found.marked_nodes, found.ended_inputs) == (0, 0)
        if "swept" in told:
            assert found.litter == 0
        if "cleared" in told:
            assert found.unkept_attachments == 0
        # A forgotten turn leaves no stamp, which would refuse the next one of its name.
        assert found.old_turns == found.old_stamps
        if "pruned" in told:
            assert found.old_turns == 0
        if found.started_over is not None and found.started_over != (0, 0, 0, 1):
            # Nothing of what the session was and had waiting is gone yet.
            nodes, batches, inputs, unfinished = found.started_over
            assert (nodes, unfinished) == (OVER_NODES, 0)
            assert batches == inputs > 0
            assert "started over" not in told
        if ("deleted", VICTIM) in said:
            assert found.victim_nodes is None
        elif ("exists", VICTIM) in said:
            assert found.victim_nodes in {None, VICTIM_NODES}
        assert found.victim_rows == 0


@dataclass
class Tally:
    """How many processes died, and at what."""

    killed: int = 0
    torn: int = 0
    survived: int = 0


def survive(
    processes: ForkServerContext, place: Path, call: str, *, kills: int, torn: int, seed: int
) -> Tally:
    """Make `call` in one life after another, die that many times, and look after each death."""
    database, chance, ledger, tally = place / "agents.db", random.Random(seed), Ledger(), Tally()
    extent = _live(processes, database, call, "0", Death(), ledger, tally)
    assert extent is not None
    assert extent.points > 0
    assert extent.growth > 0
    most = MOST_LIVES_PER_DEATH * (kills + torn)
    for life in range(1, most):
        if tally.killed < kills:
            death = Death(point=chance.randint(1, extent.points))
        elif tally.torn < torn:
            death = Death(growth=chance.randrange(extent.growth))
        else:
            break
        _live(processes, database, call, str(life), death, ledger, tally)
    assert (tally.killed, tally.torn) == (kills, torn)
    return tally


def _live(
    processes: ForkServerContext,
    database: Path,
    call: str,
    name: str,
    death: Death,
    ledger: Ledger,
    tally: Tally,
) -> Extent | None:
    died, said = to_its_death(processes, live_and_die, (call, database, name), death)
    if not died:
        tally.survived += 1
    elif death.point is None:
        tally.torn += 1
    else:
        tally.killed += 1
    for what in said:
        ledger.hears(*what)
    found = ask(processes, aftermath.look, database, f"after-{name}")
    ledger.agrees_with(found)
    ledger.last_life_agrees_with(said, found)
    return said[-1][1] if said and said[-1][0] == "survived" else None


def to_its_death(
    processes: ForkServerContext, work: Callable[..., None], args: tuple[object, ...], death: Death
) -> tuple[bool, list[tuple[Any, ...]]]:
    """Run `work(*args, death, pipe)`; whether its process died of `death`, and what it had sent."""
    ours, theirs = processes.Pipe()
    child = processes.Process(target=work, args=(*args, death, theirs), daemon=True)
    child.start()
    theirs.close()
    child.join(REPORT_TIMEOUT_S)
    assert child.exitcode in {0, death.signal}, (args, death, child.exitcode)
    said = []
    with ours:
        while ours.poll():
            try:
                said.append(ours.recv())
            except EOFError:
                break
    return child.exitcode != 0, said
