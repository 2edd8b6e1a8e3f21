"""One writer per session: who gets the lane, who keeps it, and when it may be taken away."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import anyio
import pytest

from ...ports.leases import (
    LeaseAcquired,
    LeaseBusy,
    LeaseOwnerIdentity,
    LeaseRenewed,
    LocalProcessLiveness,
    SessionExecutionLease,
)
from ...ports.storage import Storage
from ...ports.store_errors import SessionExecutionLeaseExpired
from ...ports.turn_persistence import TurnPersistence
from ...stores.local_process import local_process_liveness
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import ALICE, ALICE_AGAIN, BOB, TTL_MS, a_commit, a_store, hold


async def assert_busy(
    store: TurnPersistence, holder: SessionExecutionLease, owner: LeaseOwnerIdentity = BOB
) -> None:
    outcome = await store.try_claim_session_execution_lease(holder.session_id, owner, TTL_MS)
    assert outcome == LeaseBusy(holder)


class LeaseConformance(StorageCase):
    """A lane is free, or held by exactly one incarnation of one owner until it lapses."""

    async def test_a_free_lane_is_acquired(self, storage: Storage, clock: ManualClock) -> None:
        """The first counter is 1, and the lease says whose it is and until when."""
        store = await a_store(storage)
        lease = await hold(store)
        assert (lease.session_id, lease.owner, lease.fencing_token) == ("s", ALICE, 1)
        assert lease.claimed_at_epoch_ms == clock.timestamp_ms()
        assert lease.expires_at_epoch_ms == clock.timestamp_ms() + TTL_MS
        assert lease.lease_token

    async def test_another_owner_finds_the_lane_busy(self, storage: Storage) -> None:
        """The answer names the holder, and changes nothing."""
        store = await a_store(storage)
        lease = await hold(store)
        await assert_busy(store, lease, BOB)
        await assert_busy(store, lease, BOB)

    async def test_another_incarnation_is_another_owner(self, storage: Storage) -> None:
        """A restarted process does not own what its predecessor held."""
        store = await a_store(storage)
        lease = await hold(store)
        await assert_busy(store, lease, ALICE_AGAIN)

    async def test_the_holder_may_enter_again(self, storage: Storage, clock: ManualClock) -> None:
        """Both tokens and the claim time stay; the expiry moves on."""
        store = await a_store(storage)
        lease = await hold(store)
        clock.advance(10)
        again = await hold(store)
        assert again == replace(lease, expires_at_epoch_ms=clock.timestamp_ms() + TTL_MS)

    async def test_entering_again_never_shortens_a_lease(self, storage: Storage) -> None:
        """A nested claim with a small lifetime must not cut off the outer one."""
        store = await a_store(storage)
        lease = await hold(store)
        assert await hold(store, ttl_ms=1) == lease

    async def test_a_lapsed_lane_is_open(self, storage: Storage, clock: ManualClock) -> None:
        """At its very expiry a lease is over: anyone may claim, with a higher counter."""
        store = await a_store(storage)
        lease = await hold(store)
        clock.advance((TTL_MS - 1) / 1000)
        await assert_busy(store, lease)
        clock.advance(0.001)
        taken = await hold(store, owner=BOB)
        assert taken.fencing_token == lease.fencing_token + 1
        assert taken.lease_token != lease.lease_token

    async def test_a_lifetime_of_zero_lapses_at_once(self, storage: Storage) -> None:
        """Such a lease backs nothing and stands in nobody's way."""
        store = await a_store(storage)
        lease = await hold(store, ttl_ms=0)
        await raised_by(
            store.commit_runtime_state(a_commit(lease.fence())), SessionExecutionLeaseExpired
        )
        await hold(store, owner=BOB)

    async def test_a_lapsed_owner_that_claims_again_gets_a_new_lease(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """Somebody may have written in between, so its old fence stays dead."""
        store = await a_store(storage)
        lease = await hold(store)
        clock.advance(TTL_MS / 1000)
        again = await hold(store)
        assert again.fencing_token == lease.fencing_token + 1
        await raised_by(
            store.commit_runtime_state(a_commit(lease.fence())), SessionExecutionLeaseExpired
        )

    async def test_a_renewal_moves_the_expiry_alone(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """It counts from now, and what it answers is what holds."""
        store = await a_store(storage)
        lease = await hold(store)
        clock.advance(20)
        renewed = await store.renew_session_execution_lease(lease.fence(), TTL_MS)
        longer = replace(lease, expires_at_epoch_ms=clock.timestamp_ms() + TTL_MS)
        assert renewed == LeaseRenewed(longer)
        clock.advance(20)
        await assert_busy(store, longer)

    async def test_only_the_live_holder_renews(self, storage: Storage, clock: ManualClock) -> None:
        """Forged, released, lapsed and taken-over leases stay lost."""
        store = await a_store(storage)
        lease = await hold(store)
        fence = lease.fence()
        for forged in (
            replace(fence, lease_token="forged"),  # noqa: S106
            replace(fence, owner=ALICE_AGAIN),
            replace(fence, fencing_token=fence.fencing_token + 1),
            replace(fence, session_id="other"),
        ):
            await raised_by(
                store.renew_session_execution_lease(forged, TTL_MS), SessionExecutionLeaseExpired
            )
        await store.release_session_execution_lease(fence)
        await raised_by(
            store.renew_session_execution_lease(fence, TTL_MS), SessionExecutionLeaseExpired
        )
        late = (await hold(store)).fence()
        clock.advance(TTL_MS / 1000)
        await raised_by(
            store.renew_session_execution_lease(late, TTL_MS), SessionExecutionLeaseExpired
        )

    async def test_a_release_frees_the_lane(self, storage: Storage) -> None:
        """The next owner gets it at once, under a higher counter."""
        store = await a_store(storage)
        lease = await hold(store)
        await store.release_session_execution_lease(lease.fence())
        taken = await hold(store, owner=BOB)
        assert taken.fencing_token == lease.fencing_token + 1

    async def test_a_release_is_repeatable(self, storage: Storage) -> None:
        """A second release, or one of a lane that never was, is no error."""
        store = await a_store(storage)
        lease = await hold(store)
        await store.release_session_execution_lease(lease.fence())
        await store.release_session_execution_lease(lease.fence())
        await store.release_session_execution_lease(replace(lease.fence(), session_id="never"))
        outcome = await store.try_claim_session_execution_lease("s", BOB, TTL_MS)
        assert isinstance(outcome, LeaseAcquired)

    async def test_a_stale_release_frees_nobody_elses_lane(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A late release of a former holder leaves the present one alone."""
        store = await a_store(storage)
        stale = (await hold(store)).fence()
        clock.advance(TTL_MS / 1000)
        present = await hold(store, owner=BOB)
        await store.release_session_execution_lease(stale)
        await store.release_session_execution_lease(replace(stale, lease_token=present.lease_token))
        await assert_busy(store, present, ALICE)

    async def test_the_counter_only_ever_rises(self, storage: Storage, clock: ManualClock) -> None:
        """Over releases and lapses alike, so that every old fence is recognised for ever."""
        store = await a_store(storage)
        counters = []
        for owner in (ALICE, BOB, ALICE_AGAIN, ALICE):
            lease = await hold(store, owner=owner)
            counters.append(lease.fencing_token)
            if owner is BOB:
                clock.advance(TTL_MS / 1000)
            else:
                await store.release_session_execution_lease(lease.fence())
        assert counters == [1, 2, 3, 4]

    async def test_each_session_has_its_own_lane(self, storage: Storage) -> None:
        """A lease goes by the session that it names, through whichever store it is asked."""
        store, other = await a_store(storage), await a_store(storage, "other")
        mine = await hold(store, "s", ALICE)
        await hold(store, "other", BOB)
        await assert_busy(other, mine)
        assert (await hold(other, "third", BOB)).fencing_token == 1

    async def test_of_concurrent_first_claims_one_wins(self, storage: Storage) -> None:
        """A lane is never handed out twice."""
        store = await a_store(storage)
        won: list[SessionExecutionLease] = []

        async def claim(name: str) -> None:
            owner = LeaseOwnerIdentity(owner_id=name, incarnation_id="1")
            outcome = await store.try_claim_session_execution_lease("s", owner, TTL_MS)
            if isinstance(outcome, LeaseAcquired):
                won.append(outcome.lease)

        async with anyio.create_task_group() as claims:
            for at in range(16):
                claims.start_soon(claim, f"owner-{at}")
        assert [lease.fencing_token for lease in won] == [1]


NOT_PROVEN: Final[Mapping[str, Mapping[str, Any]]] = {
    "alive": {},
    "on another host": {"host_id": "elsewhere", "process_start": "0"},
    "before a reboot": {"boot_id": "another", "process_start": "0"},
    "in another container": {"pid_namespace": "pid:[1]", "process_start": "0"},
}
"""Holders whose death this process cannot prove, by what is different about them."""


def this_process() -> LocalProcessLiveness:
    """The facts about this process; skips where a system has none to prove a death by."""
    liveness = local_process_liveness()
    if not isinstance(liveness, LocalProcessLiveness):
        pytest.skip("this system tells nothing about its processes")
    return liveness


def a_dead_owner(owner_id: str = "dead", **differences: Any) -> LeaseOwnerIdentity:
    """An owner whose pid was since given to another process, unless `differences` say more."""
    facts = {"process_start": "0"} | differences
    return LeaseOwnerIdentity(
        owner_id=owner_id, incarnation_id="1", liveness=this_process().model_copy(update=facts)
    )


def a_living_owner(owner_id: str = "claimant") -> LeaseOwnerIdentity:
    return LeaseOwnerIdentity(owner_id=owner_id, incarnation_id="1", liveness=this_process())


class ReclaimConformance(StorageCase):
    """A holder that is provably dead need not be waited for; everyone else must be."""

    async def test_a_plain_claim_never_asks_whether_the_holder_lives(
        self, storage: Storage
    ) -> None:
        """Taking over is a decision that a caller makes, never a side effect."""
        store = await a_store(storage)
        lease = await hold(store, owner=a_dead_owner())
        await assert_busy(store, lease, a_living_owner())

    async def test_a_dead_holder_loses_the_lane_at_once(self, storage: Storage) -> None:
        """The counter rises, so that the dead one's writes stay fenced out."""
        store = await a_store(storage)
        lease = await hold(store, owner=a_dead_owner())
        outcome = await store.reclaim_session_execution_lease(
            "s", a_living_owner(), lease.fence(), TTL_MS
        )
        assert isinstance(outcome, LeaseAcquired)
        assert outcome.lease.fencing_token == lease.fencing_token + 1
        assert outcome.lease.lease_token != lease.lease_token
        await raised_by(
            store.commit_runtime_state(a_commit(lease.fence())), SessionExecutionLeaseExpired
        )

    async def test_one_observation_serves_one_claimant(self, storage: Storage) -> None:
        """Of several that saw the same dead holder, the first takes the lane from all others."""
        store = await a_store(storage)
        observed = (await hold(store, owner=a_dead_owner())).fence()
        winner = await store.reclaim_session_execution_lease(
            "s", a_living_owner("first"), observed, TTL_MS
        )
        assert isinstance(winner, LeaseAcquired)
        loser = await store.reclaim_session_execution_lease(
            "s", a_living_owner("second"), observed, TTL_MS
        )
        assert loser == LeaseBusy(winner.lease)

    async def test_an_observation_must_match_in_full(self, storage: Storage) -> None:
        """Another counter, token, owner or session was another holder."""
        store = await a_store(storage)
        lease = await hold(store, owner=a_dead_owner())
        fence = lease.fence()
        for other in (
            replace(fence, fencing_token=fence.fencing_token + 1),
            replace(fence, lease_token="other"),  # noqa: S106
            replace(fence, owner=a_dead_owner("somebody else")),
            replace(fence, session_id="other"),
        ):
            outcome = await store.reclaim_session_execution_lease(
                "s", a_living_owner(), other, TTL_MS
            )
            assert outcome == LeaseBusy(lease)

    async def test_death_is_judged_by_what_the_holder_said_of_itself(
        self, storage: Storage
    ) -> None:
        """Facts that a claimant brings along about the holder prove nothing."""
        store = await a_store(storage)
        lease = await hold(store, owner=a_living_owner("holder"))
        slander = replace(lease.fence(), owner=a_dead_owner("holder"))
        outcome = await store.reclaim_session_execution_lease(
            "s", a_living_owner(), slander, TTL_MS
        )
        assert outcome == LeaseBusy(lease)

    async def test_what_is_not_proven_dead_is_waited_for(self, storage: Storage) -> None:
        """A living holder, and one that this process cannot see, keep the lane."""
        for at, (case, facts) in enumerate(NOT_PROVEN.items()):
            session_id = f"s{at}"
            store = await a_store(storage, session_id)
            owner = a_living_owner() if not facts else a_dead_owner(**facts)
            lease = await hold(store, session_id, owner)
            outcome = await store.reclaim_session_execution_lease(
                session_id, a_living_owner("other"), lease.fence(), TTL_MS
            )
            assert outcome == LeaseBusy(lease), case

    async def test_opaque_owners_prove_nothing(self, storage: Storage) -> None:
        """Neither as holder nor as claimant."""
        store = await a_store(storage)
        lease = await hold(store, owner=ALICE)
        outcome = await store.reclaim_session_execution_lease(
            "s", a_living_owner(), lease.fence(), TTL_MS
        )
        assert outcome == LeaseBusy(lease)
        dead = await hold(store, "other", a_dead_owner())
        outcome = await store.reclaim_session_execution_lease("other", BOB, dead.fence(), TTL_MS)
        assert outcome == LeaseBusy(dead)

    async def test_an_open_lane_needs_no_proof(self, storage: Storage, clock: ManualClock) -> None:
        """A holder that has lapsed or left is gone, whatever was observed of it."""
        store = await a_store(storage)
        lapsed = await hold(store)
        clock.advance(TTL_MS / 1000)
        outcome = await store.reclaim_session_execution_lease("s", BOB, lapsed.fence(), TTL_MS)
        assert isinstance(outcome, LeaseAcquired)
        assert outcome.lease.fencing_token == lapsed.fencing_token + 1
