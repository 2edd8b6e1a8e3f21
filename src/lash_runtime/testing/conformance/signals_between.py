"""Signals between storages on one place: what one commits, listeners of the others hear of."""

import pytest
from anyio.lowlevel import checkpoint

from ...ports.signals import SignalFilter, SignalKind
from ._case import StorageCase
from ._samples import a_store, accepted, an_acceptance, as_failed, hold
from .durable import DurableStorageConformance, OpenStorage
from .signals import SETTLED, free_the_lane, waited


class SignalsBetweenConformance(StorageCase):
    """Each call of `storage_factory` must give a new storage over one and the same place.

    A signal may be late here, so a case waits; it may be lost, but not where nothing is in its
    way, as here.
    """

    open_storage = DurableStorageConformance.open_storage

    @pytest.mark.usefixtures("needs_signals")
    async def test_another_storage_hears_of_it(self, open_storage: OpenStorage) -> None:
        """In whichever process it is, and what it hears of it can see."""
        here, there = await open_storage(), await open_storage()
        store, seen = await a_store(here), await a_store(there)
        turn = await accepted(store, an_acceptance())
        with there.signals.listen(SETTLED) as told:
            await store.settle_turn(turn.lease.fence(), as_failed(), release=True)
            row = await seen.load_turn("s", "t1")
            assert row is not None
            assert row.failure == as_failed().failure
            assert await waited(told)

    @pytest.mark.usefixtures("needs_signals")
    async def test_each_of_many_storages_hears_of_it(self, open_storage: OpenStorage) -> None:
        """Also after one of them has left, and one has come."""
        here, *others = [await open_storage() for _ in range(4)]
        store = await a_store(here)
        await others.pop().aclose()
        others.append(await open_storage())
        wanted = SignalFilter.of(SignalKind.LANE_FREE)
        subscriptions = [other.signals.listen(wanted) for other in others]
        await free_the_lane(store)
        for subscription in subscriptions:
            assert await waited(subscription)
            subscription.close()
        assert (await hold(store)).fencing_token == 2

    @pytest.mark.usefixtures("needs_signals")
    async def test_whoever_listens_again_hears_again(self, open_storage: OpenStorage) -> None:
        """Listening again, after a time in which nobody did, is listening."""
        here, there = await open_storage(), await open_storage()
        store = await a_store(here)
        wanted = SignalFilter.of(SignalKind.LANE_FREE, session_id="s")
        for _ in range(3):
            with there.signals.listen(wanted) as told:
                await free_the_lane(store)
                assert await waited(told)
            for _ in range(20):
                await free_the_lane(store)
                await checkpoint()
        assert (await hold(store)).fencing_token == 3 * 21 + 1
