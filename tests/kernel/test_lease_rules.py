"""The rules of fencing, walked through in full and driven at random."""

from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lash_runtime.kernel.lease_rules import (
    CLAIM,
    ClaimVerdict,
    Lane,
    LaneHolder,
    LaneProof,
    ProcessSighting,
    backs_a_write,
    claim_verdict,
    death_is_proven,
    expiry_on_reentry,
    lane_as_found,
    may_release,
    reclaim_verdict,
    same_process_table,
)

NOW = 1_000
PROOF = LaneProof("alice", "1", "token", 7)
LIVE = LaneHolder(PROOF, NOW + 1)
LAPSED = LaneHolder(PROOF, NOW)

OTHER_PROOFS = (
    PROOF._replace(owner_id="bob"),
    PROOF._replace(incarnation_id="2"),
    PROOF._replace(lease_token="other"),
    PROOF._replace(fencing_token=6),
    PROOF._replace(fencing_token=8),
)


@dataclass(frozen=True)
class Facts:
    host_id: str = "host"
    boot_id: str = "boot"
    pid: int = 41
    process_start: str = "100"
    pid_namespace: str | None = "pid:[1]"


def test_a_lease_is_live_until_its_expiry_and_not_at_it() -> None:
    """Two stores that disagreed about the last millisecond would both have a writer in it."""
    assert LIVE.is_live(NOW)
    assert not LAPSED.is_live(NOW)


@pytest.mark.parametrize(
    ("holder", "owner", "incarnation", "found"),
    [
        (None, "alice", "1", Lane.OPEN),
        (LAPSED, "alice", "1", Lane.OPEN),
        (LAPSED, "bob", "1", Lane.OPEN),
        (LIVE, "alice", "1", Lane.LIVE_OWN),
        (LIVE, "alice", "2", Lane.LIVE_OTHER),
        (LIVE, "bob", "1", Lane.LIVE_OTHER),
    ],
)
def test_a_lane_is_found_open_own_or_anothers(
    holder: LaneHolder | None, owner: str, incarnation: str, found: Lane
) -> None:
    """An owner is its id and its incarnation together."""
    identity = {"owner_id": owner, "incarnation_id": incarnation, "now_ms": NOW}
    assert lane_as_found(holder, **identity) is found
    assert claim_verdict(holder, **identity) is CLAIM[found]


def test_every_kind_of_lane_has_a_verdict() -> None:
    """A claim is never left without an answer."""
    assert CLAIM == {
        Lane.OPEN: ClaimVerdict.ACQUIRE,
        Lane.LIVE_OWN: ClaimVerdict.REENTER,
        Lane.LIVE_OTHER: ClaimVerdict.BUSY,
    }
    assert set(CLAIM) == set(Lane)


def test_a_write_is_backed_by_the_live_holder_alone() -> None:
    """Every part of the proof counts, and so does the time."""
    assert backs_a_write(LIVE, PROOF, NOW)
    assert not backs_a_write(LAPSED, PROOF, NOW)
    assert not backs_a_write(None, PROOF, NOW)
    for other in OTHER_PROOFS:
        assert not backs_a_write(LIVE, other, NOW)


def test_a_release_needs_identity_and_no_time() -> None:
    """A late release of one's own lapsed lease is harmless; anyone else's is nothing."""
    assert may_release(LIVE, PROOF)
    assert may_release(LAPSED, PROOF)
    assert not may_release(None, PROOF)
    for other in OTHER_PROOFS:
        assert not may_release(LIVE, other)


@given(expires=st.integers(0, 10**6), now=st.integers(0, 10**6), ttl=st.integers(0, 10**6))
def test_entering_again_covers_both_lifetimes(expires: int, now: int, ttl: int) -> None:
    """The old grant stands, and the new one is given in full."""
    expiry = expiry_on_reentry(expires, now, ttl)
    assert expiry == max(expires, now + ttl)


def test_an_open_lane_is_reclaimed_without_a_proof() -> None:
    """Nobody is asked about a holder that is not there."""

    def never() -> bool:
        raise AssertionError("asked about a holder of an open lane")

    for holder in (None, LAPSED):
        verdict = reclaim_verdict(holder, OTHER_PROOFS[0], now_ms=NOW, is_dead=never)
        assert verdict is ClaimVerdict.ACQUIRE


@pytest.mark.parametrize("dead", [True, False])
def test_a_live_lane_is_reclaimed_only_from_the_dead_one_that_was_observed(dead: bool) -> None:
    """Both halves are needed: it still is that holder, and its death is proven."""
    verdict = reclaim_verdict(LIVE, PROOF, now_ms=NOW, is_dead=lambda: dead)
    assert verdict is (ClaimVerdict.ACQUIRE if dead else ClaimVerdict.BUSY)


def test_a_wrong_observation_asks_nobody() -> None:
    """Looking at processes costs file reads; a holder that has changed is busy without them."""
    asked: list[LaneProof] = []

    def dead() -> bool:
        asked.append(PROOF)
        return True

    for other in OTHER_PROOFS:
        assert reclaim_verdict(LIVE, other, now_ms=NOW, is_dead=dead) is ClaimVerdict.BUSY
    assert asked == []


@pytest.mark.parametrize(
    ("sighting", "dead"),
    [
        (None, False),
        (ProcessSighting("100"), False),
        (ProcessSighting("100", ended=True), True),
        (ProcessSighting("101"), True),
        (ProcessSighting(None), True),
    ],
)
def test_death_is_proven_by_the_process_table(sighting: ProcessSighting | None, dead: bool) -> None:
    """Gone, ended or another process under that pid; a table that cannot be read proves nothing."""
    assert death_is_proven(Facts(), Facts(pid=99), sighting) is dead


@pytest.mark.parametrize(
    "elsewhere",
    [
        Facts(host_id="other"),
        Facts(boot_id="other"),
        Facts(pid_namespace="pid:[2]"),
        Facts(pid_namespace=None),
    ],
)
def test_another_process_table_proves_nothing(elsewhere: Facts) -> None:
    """Another machine, an earlier boot and another container have pids of their own."""
    assert not same_process_table(Facts(), elsewhere)
    assert not same_process_table(elsewhere, Facts())
    assert not death_is_proven(Facts(), elsewhere, ProcessSighting(None))


def test_records_without_a_namespace_are_of_one() -> None:
    """Where no namespaces exist, host and boot decide."""
    assert same_process_table(Facts(pid_namespace=None), Facts(pid_namespace=None))


OWNERS = tuple(product(("alice", "bob"), ("1", "2")))


class FencingLaws(RuleBasedStateMachine):
    """A lane that only does what the rules say, with every proof it ever handed out.

    Whatever the order of claims, renewals, releases and deaths, at most one proof backs a
    write, and it is the last one that was handed out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.counter = 0
        self.holder: LaneHolder | None = None
        self.proofs: list[LaneProof] = []

    def acquire(self, owner: tuple[str, str], ttl: int) -> None:
        self.counter += 1
        proof = LaneProof(*owner, f"token-{self.counter}", self.counter)
        self.proofs.append(proof)
        self.holder = LaneHolder(proof, self.now + ttl)

    @rule(owner=st.sampled_from(OWNERS), ttl=st.integers(0, 5))
    def claim(self, owner: tuple[str, str], ttl: int) -> None:
        holder = self.holder
        verdict = claim_verdict(holder, owner_id=owner[0], incarnation_id=owner[1], now_ms=self.now)
        if verdict is ClaimVerdict.ACQUIRE:
            self.acquire(owner, ttl)
        elif verdict is ClaimVerdict.REENTER:
            assert holder is not None
            expiry = expiry_on_reentry(holder.expires_at_ms, self.now, ttl)
            assert expiry >= holder.expires_at_ms
            self.holder = holder._replace(expires_at_ms=expiry)

    @rule(owner=st.sampled_from(OWNERS), dead=st.booleans(), data=st.data())
    def reclaim(self, owner: tuple[str, str], dead: bool, data: st.DataObject) -> None:
        if not self.proofs:
            return
        observed = data.draw(st.sampled_from(self.proofs))
        was = self.holder
        verdict = reclaim_verdict(was, observed, now_ms=self.now, is_dead=lambda: dead)
        assert verdict is not ClaimVerdict.REENTER
        if verdict is ClaimVerdict.ACQUIRE:
            taken_from_the_living = was is not None and was.is_live(self.now) and not dead
            assert not taken_from_the_living
            self.acquire(owner, 5)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.proofs:
            proof = data.draw(st.sampled_from(self.proofs))
            if may_release(self.holder, proof):
                assert proof == self.proofs[-1]
                self.holder = None

    @rule(step=st.integers(1, 4))
    def time_passes(self, step: int) -> None:
        self.now += step

    @invariant()
    def at_most_the_last_proof_backs_a_write(self) -> None:
        backed = [proof for proof in self.proofs if backs_a_write(self.holder, proof, self.now)]
        assert backed in ([], self.proofs[-1:])

    @invariant()
    def counters_only_rise(self) -> None:
        counters = [proof.fencing_token for proof in self.proofs]
        assert counters == sorted(set(counters))


TestFencingLaws = FencingLaws.TestCase
TestFencingLaws.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
