"""What all sessions of a storage say together about attachments: the ground for removing any."""

import pytest

from ...model.turn_input import TurnInput
from ...ports.attachments import AttachmentIntent, AttachmentReferences, sha256_uri
from ...ports.storage import Storage
from ...ports.turn_persistence import TurnPersistence
from ..clocks import ManualClock
from ._case import StorageCase
from ._samples import (
    a_chain,
    a_commit,
    a_store,
    accepted,
    an_acceptance,
    as_committed,
    first,
    hold,
)
from .attachments import PNG

A, B, C = (digit * 64 for digit in "abc")


async def _intend(
    store: TurnPersistence, session_id: str, *attachment_ids: str, at_ms: int = 100
) -> None:
    for attachment_id in attachment_ids:
        await store.record_intent(
            AttachmentIntent(
                attachment_id=attachment_id,
                session_id=session_id,
                canonical_uri=sha256_uri(attachment_id),
                intent_at_epoch_ms=at_ms,
            )
        )


class AttachmentReferenceConformance(StorageCase):
    """One session that keeps an attachment is enough; its own intent may be older than any."""

    @pytest.fixture
    def references(
        self, storage: Storage, needs_manifest: None, needs_sweep: None
    ) -> AttachmentReferences:
        stores = storage.session_stores
        assert isinstance(stores, AttachmentReferences)
        return stores

    async def test_what_nobody_committed_is_abandoned(
        self, storage: Storage, references: AttachmentReferences
    ) -> None:
        """Once it is old enough, and named once however many sessions had meant to keep it."""
        for name in ("one", "two"):
            await _intend(await a_store(storage, name), name, A)
        assert list(await references.list_abandoned(100)) == [A]
        assert list(await references.list_abandoned(99)) == []
        assert await references.kept_of([A, B], 100) == frozenset()
        assert await references.kept_of([A, B], 99) == {A}

    async def test_sessions_can_be_asked_about_any_moment(
        self, storage: Storage, references: AttachmentReferences
    ) -> None:
        """Beyond what a database can count to there are still only all or none."""
        await _intend(await a_store(storage), "s", A)
        assert list(await references.list_abandoned(2**70)) == [A]
        assert list(await references.list_abandoned(-(2**70))) == []

    async def test_a_session_that_refers_to_it_keeps_it(
        self, storage: Storage, references: AttachmentReferences
    ) -> None:
        """Whatever another session has abandoned, and without an intent of its own."""
        one, two = await a_store(storage, "one"), await a_store(storage, "two")
        await _intend(one, "one", A)
        await two.commit_refs("two", [A])
        assert list(await references.list_abandoned(100)) == []
        assert await references.forget_abandoned([A], 100) == frozenset()
        assert [entry.attachment_id for entry in await one.list_uncommitted(100)] == [A]

    async def test_a_younger_intent_keeps_it(
        self, storage: Storage, references: AttachmentReferences
    ) -> None:
        """Another session is storing the same bytes right now."""
        one, two = await a_store(storage, "one"), await a_store(storage, "two")
        await _intend(one, "one", A)
        await _intend(two, "two", A, at_ms=101)
        assert list(await references.list_abandoned(100)) == []
        assert await references.forget_abandoned([A], 100) == frozenset()

    async def test_an_unfinished_turn_keeps_what_its_session_stored(
        self, storage: Storage, references: AttachmentReferences
    ) -> None:
        """It may have stored something long ago that only its commit will show."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        await _intend(store, "s", A)
        assert list(await references.list_abandoned(2**60)) == []
        assert await references.kept_of([A], 2**60) == {A}
        await store.commit_runtime_state(
            a_commit(turn.lease.fence(), graph=first(*a_chain("a")), turn_settlement=as_committed())
        )
        assert list(await references.list_abandoned(2**60)) == [A]

    async def test_an_accepted_turn_keeps_what_it_was_asked_with(
        self, storage: Storage, references: AttachmentReferences
    ) -> None:
        """Also when the turn itself never gets to say so: its row, and then the transcript,
        refers to the image."""
        store = await a_store(storage)
        image = await storage.attachments.put(b"an image", PNG)
        await _intend(store, "s", image.id)
        turn = await accepted(store, an_acceptance(input=TurnInput.of("Look", image)))
        await store.commit_runtime_state(
            a_commit(turn.lease.fence(), graph=first(*a_chain("a")), turn_settlement=as_committed())
        )
        assert await references.kept_of([image.id], 2**60) == {image.id}

    async def test_a_commit_keeps_what_it_names(
        self, storage: Storage, references: AttachmentReferences
    ) -> None:
        """In its own transaction; the rest stays as it was."""
        store = await a_store(storage)
        await _intend(store, "s", A, B)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(
            a_commit(fence, graph=first(*a_chain("a")), committed_attachment_ids=(A, C))
        )
        assert await references.kept_of([A, B, C], 2**60) == {A, C}
        assert list(await references.list_abandoned(100)) == [B]

    async def test_forgetting_leaves_what_is_kept(
        self, storage: Storage, references: AttachmentReferences
    ) -> None:
        """Of all ids at once, every session's row of those that nobody keeps, and no other."""
        one, two = await a_store(storage, "one"), await a_store(storage, "two")
        await _intend(one, "one", A, B)
        await _intend(two, "two", A, B)
        await two.commit_refs("two", [B])
        assert await references.forget_abandoned([A, B, C], 100) == {A, C}
        assert [entry.attachment_id for entry in await one.list_uncommitted(100)] == [B]
        assert list(await two.list_uncommitted(100)) == []
        assert await references.forget_abandoned([], 100) == frozenset()

    async def test_a_session_that_starts_over_refers_to_nothing(
        self, storage: Storage, references: AttachmentReferences, clock: ManualClock
    ) -> None:
        """Its images can be swept once they have been without a session for long enough."""
        store = await a_store(storage)
        await store.commit_refs("s", [A])
        clock.advance(60)
        turn = await accepted(store, an_acceptance(replace_session=True))
        await store.commit_runtime_state(
            a_commit(turn.lease.fence(), graph=first(*a_chain("a")), turn_settlement=as_committed())
        )
        now_ms = clock.timestamp_ms()
        assert await references.kept_of([A], now_ms - 1) == {A}
        assert list(await references.list_abandoned(now_ms)) == [A]
