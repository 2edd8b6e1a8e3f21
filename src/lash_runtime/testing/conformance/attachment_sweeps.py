"""Setting bytes aside: removing them later can take nothing that was stored in between."""

import pytest

from ...ports.attachments import (
    AttachmentStore,
    AttachmentStoreError,
    SweepableAttachmentStore,
)
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from .attachments import ABSENT_IDS, PNG, AttachmentConformance


class AttachmentSweepConformance(StorageCase):
    """For attachment stores that a sweep can clean; uses the fixture `attachments`."""

    attachments = AttachmentConformance.attachments

    @pytest.fixture
    def sweepable(
        self, attachments: AttachmentStore, needs_sweep: None
    ) -> SweepableAttachmentStore:
        assert isinstance(attachments, SweepableAttachmentStore)
        return attachments

    async def test_what_is_set_aside_reads_as_before(
        self, sweepable: SweepableAttachmentStore
    ) -> None:
        """A sweep that dies has broken nothing."""
        ref = await sweepable.put(b"here", PNG)
        await sweepable.retire(ref.id, "sweep")
        stored = await sweepable.get(ref.id)
        assert (stored.data, stored.meta) == (b"here", ref)
        assert list(await sweepable.list_retired()) == [ref.id]

    async def test_what_is_set_aside_can_be_removed(
        self, sweepable: SweepableAttachmentStore
    ) -> None:
        """By the sweep that set it aside, and completely."""
        ref = await sweepable.put(b"gone", PNG)
        kept = await sweepable.put(b"kept", PNG)
        await sweepable.retire(ref.id, "sweep")
        await sweepable.discard(ref.id, "sweep")
        await _assert_gone(sweepable, ref.id)
        assert list(await sweepable.list_retired()) == []
        assert (await sweepable.get(kept.id)).data == b"kept"

    async def test_what_is_put_back_cannot_be_removed(
        self, sweepable: SweepableAttachmentStore
    ) -> None:
        """Nor is it listed as set aside."""
        ref = await sweepable.put(b"kept", PNG)
        await sweepable.retire(ref.id, "sweep")
        await sweepable.restore(ref.id)
        assert list(await sweepable.list_retired()) == []
        await sweepable.discard(ref.id, "sweep")
        assert (await sweepable.get(ref.id)).data == b"kept"

    async def test_what_is_stored_anew_cannot_be_removed(
        self, sweepable: SweepableAttachmentStore
    ) -> None:
        """The upload that comes while a sweep is deciding is the one that counts."""
        ref = await sweepable.put(b"kept", PNG)
        await sweepable.retire(ref.id, "sweep")
        anew = await sweepable.put(b"kept", PNG.model_copy(update={"label": "anew"}))
        await sweepable.discard(ref.id, "sweep")
        stored = await sweepable.get(ref.id)
        assert (stored.data, stored.meta) == (b"kept", anew)

    async def test_what_is_stored_anew_is_not_put_back(
        self, sweepable: SweepableAttachmentStore
    ) -> None:
        """The metadata of the last upload stays."""
        ref = await sweepable.put(b"kept", PNG)
        await sweepable.retire(ref.id, "sweep")
        anew = await sweepable.put(b"kept", PNG.model_copy(update={"label": "anew"}))
        await sweepable.restore(ref.id)
        assert anew.label == "anew"
        assert (await sweepable.get(ref.id)).meta == anew

    async def test_a_sweep_removes_only_its_own(self, sweepable: SweepableAttachmentStore) -> None:
        """Another one has decided on other grounds, or before the bytes were stored anew."""
        ref = await sweepable.put(b"kept", PNG)
        await sweepable.retire(ref.id, "first")
        await sweepable.put(b"kept", PNG)
        await sweepable.retire(ref.id, "second")
        await sweepable.discard(ref.id, "first")
        assert (await sweepable.get(ref.id)).data == b"kept"
        await sweepable.restore(ref.id)
        assert (await sweepable.get(ref.id)).data == b"kept"

    async def test_a_sweep_takes_over_what_another_has_left(
        self, sweepable: SweepableAttachmentStore
    ) -> None:
        """The first one may have died; if it has not, it can no longer remove anything."""
        ref = await sweepable.put(b"gone", PNG)
        await sweepable.retire(ref.id, "first")
        await sweepable.retire(ref.id, "second")
        await sweepable.discard(ref.id, "first")
        assert (await sweepable.get(ref.id)).data == b"gone"
        await sweepable.discard(ref.id, "second")
        await _assert_gone(sweepable, ref.id)

    async def test_deleting_takes_what_is_set_aside(
        self, sweepable: SweepableAttachmentStore
    ) -> None:
        """It means the bytes, wherever they are."""
        ref = await sweepable.put(b"gone", PNG)
        await sweepable.retire(ref.id, "sweep")
        await sweepable.delete(ref.id)
        await _assert_gone(sweepable, ref.id)
        assert list(await sweepable.list_retired()) == []

    async def test_setting_aside_what_is_not_there_does_nothing(
        self, sweepable: SweepableAttachmentStore
    ) -> None:
        """Unknown ids, malformed ones, and those that look like a path or a pattern."""
        ref = await sweepable.put(b"kept", PNG)
        for attachment_id in ABSENT_IDS:
            await sweepable.retire(attachment_id, "sweep")
            await sweepable.restore(attachment_id)
            await sweepable.discard(attachment_id, "sweep")
        assert list(await sweepable.list_retired()) == []
        assert (await sweepable.get(ref.id)).data == b"kept"

    async def test_what_is_stored_is_listed_by_age(
        self, sweepable: SweepableAttachmentStore, clock: ManualClock
    ) -> None:
        """The age is that of the last upload; what is set aside is stored all the same."""
        then_ms = clock.timestamp_ms()
        old = await sweepable.put(b"old", PNG)
        again = await sweepable.put(b"again", PNG)
        aside = await sweepable.put(b"aside", PNG)
        await sweepable.retire(aside.id, "sweep")
        clock.advance(60)
        await sweepable.put(b"again", PNG)
        assert sorted(await sweepable.list_stored(then_ms)) == sorted((old.id, aside.id))
        everything = sorted((old.id, again.id, aside.id))
        assert sorted(await sweepable.list_stored(clock.timestamp_ms())) == everything
        assert list(await sweepable.list_stored(then_ms - 1)) == []


async def _assert_gone(attachments: AttachmentStore, attachment_id: str) -> None:
    error = await raised_by(attachments.get(attachment_id), AttachmentStoreError)
    assert error.code == "not_found"
