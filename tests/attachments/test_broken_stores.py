"""The cases about attachments, held to their own purpose: a store that breaks a rule is caught.

Each broken one gets one thing wrong. The case beside it passes on the intact one.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lash_runtime.model.attachments import AttachmentCreateMeta, AttachmentRef, attachment_id
from lash_runtime.ports.attachments import AttachmentStoreError, StoredAttachment
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing import FixedIdSource, ManualClock
from lash_runtime.testing.conformance import (
    AttachmentConformance,
    AttachmentReferenceConformance,
    AttachmentSweepConformance,
    ManifestConformance,
)
from lash_runtime.testing.conformance.attachments import PNG

pytestmark = pytest.mark.anyio


class EveryCase(
    AttachmentConformance,
    AttachmentSweepConformance,
    AttachmentReferenceConformance,
    ManifestConformance,
):
    """Not collected: its name does not say "Test"."""


class Wrapped:
    """Does everything as the intact one does, but for one override."""

    def __init__(self, intact: Any) -> None:
        self.intact = intact

    def __getattr__(self, name: str) -> Any:
        return getattr(self.intact, name)


class Images(Wrapped):
    """A broken attachment store."""


class References(Wrapped):
    """A broken view of all manifests."""


class HidesWhatIsSetAside(Images):
    """A sweep that dies has deleted everything it had only looked at."""

    async def get(self, attachment_id: str) -> StoredAttachment:
        if attachment_id in await self.intact.list_retired():
            raise AttachmentStoreError("not_found", attachment_id)
        stored: StoredAttachment = await self.intact.get(attachment_id)
        return stored


class KeepsTheMark(Images):
    """An upload is dropped with what it was meant to replace."""

    def __init__(self, intact: Any) -> None:
        super().__init__(intact)
        self.marks: dict[str, str] = {}

    async def retire(self, attachment_id: str, sweep_id: str) -> None:
        self.marks[attachment_id] = sweep_id
        await self.intact.retire(attachment_id, sweep_id)

    async def put(self, data: bytes, meta: AttachmentCreateMeta) -> AttachmentRef:
        ref: AttachmentRef = await self.intact.put(data, meta)
        if (mark := self.marks.get(ref.id)) is not None:
            await self.intact.retire(ref.id, mark)
        return ref


class DiscardsForOthers(Images):
    """Whatever is set aside goes with the next decision, whoever has decided what."""

    async def discard(self, attachment_id: str, sweep_id: str) -> None:
        if attachment_id in await self.intact.list_retired():
            await self.intact.delete(attachment_id)


class DeletesAtOnce(Images):
    """Nothing is set aside; there is no way back."""

    async def retire(self, attachment_id: str, sweep_id: str) -> None:
        await self.intact.delete(attachment_id)


class KnowsNoAge(Images):
    """What was stored a moment ago is as old as anything."""

    async def list_stored(self, older_than_epoch_ms: int) -> Sequence[str]:
        found: Sequence[str] = await self.intact.list_stored(2**62)
        return found


class KeepsTheFirstMetadata(Images):
    """A label that is given later is lost."""

    async def put(self, data: bytes, meta: AttachmentCreateMeta) -> AttachmentRef:
        try:
            known: StoredAttachment = await self.intact.get(attachment_id(data))
        except AttachmentStoreError:
            ref: AttachmentRef = await self.intact.put(data, meta)
            return ref
        return known.meta


class JoinsPaths(Images):
    """An id is taken for a name of a file."""

    async def get(self, attachment_id: str) -> StoredAttachment:
        if attachment_id.startswith("/") and Path(attachment_id).exists():
            meta = AttachmentRef.of(attachment_id, 0, PNG)
            return StoredAttachment(meta=meta, data=Path(attachment_id).read_bytes())
        stored: StoredAttachment = await self.intact.get(attachment_id)
        return stored


class ForgetsWithoutAsking(References):
    """What it is told to forget is gone, whoever keeps it."""

    async def forget_abandoned(
        self, attachment_ids: Sequence[str], older_than_epoch_ms: int
    ) -> frozenset[str]:
        return frozenset(attachment_ids)


class KeepsNothing(References):
    """Nobody is asked at all."""

    async def kept_of(
        self, attachment_ids: Sequence[str], older_than_epoch_ms: int
    ) -> frozenset[str]:
        return frozenset()


class ListsWhatIsKept(References):
    """An old intent is listed with no thought of who else keeps the bytes."""

    async def list_abandoned(self, older_than_epoch_ms: int) -> Sequence[str]:
        return ["a" * 64]


class Storage(Wrapped):
    """The memory storage, with its attachments or its session stores exchanged."""

    def __init__(self, broken: type[Wrapped]) -> None:
        super().__init__(MemoryStorage())
        self.attachments: Any = self.intact.attachments
        self.session_stores: Any = self.intact.session_stores
        if issubclass(broken, Images):
            self.attachments = broken(self.attachments)
        if issubclass(broken, References):
            self.session_stores = broken(self.session_stores)


async def passes(case: str, storage: Any) -> bool:
    """Whether that case passes on the storage. Any error that is neither the case's verdict nor
    the store's own is a mistake in this file."""
    clock = ManualClock()
    storage.bind(clock=clock, ids=FixedIdSource())
    await storage.open()
    method = getattr(EveryCase(), case)
    given = {
        "storage": storage,
        "clock": clock,
        "attachments": storage.attachments,
        "sweepable": storage.attachments,
        "references": storage.session_stores,
    }
    try:
        await method(**{name: given[name] for name in inspect.signature(method).parameters})
    except (AssertionError, pytest.fail.Exception, AttachmentStoreError):
        return False
    finally:
        await storage.aclose()
    return True


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (HidesWhatIsSetAside, "test_what_is_set_aside_reads_as_before"),
        (KeepsTheMark, "test_what_is_stored_anew_cannot_be_removed"),
        (DiscardsForOthers, "test_a_sweep_removes_only_its_own"),
        (DiscardsForOthers, "test_a_sweep_takes_over_what_another_has_left"),
        (DeletesAtOnce, "test_what_is_put_back_cannot_be_removed"),
        (KnowsNoAge, "test_what_is_stored_is_listed_by_age"),
        (KeepsTheFirstMetadata, "test_equal_bytes_are_stored_once"),
        (KeepsTheFirstMetadata, "test_what_is_stored_anew_is_not_put_back"),
        (JoinsPaths, "test_an_unknown_attachment_is_not_found"),
        (ForgetsWithoutAsking, "test_forgetting_leaves_what_is_kept"),
        (ForgetsWithoutAsking, "test_a_session_that_refers_to_it_keeps_it"),
        (ForgetsWithoutAsking, "test_a_younger_intent_keeps_it"),
        (KeepsNothing, "test_an_unfinished_turn_keeps_what_its_session_stored"),
        (KeepsNothing, "test_an_accepted_turn_keeps_what_it_was_asked_with"),
        (KeepsNothing, "test_a_commit_keeps_what_it_names"),
        (ListsWhatIsKept, "test_a_session_that_refers_to_it_keeps_it"),
        (ListsWhatIsKept, "test_a_younger_intent_keeps_it"),
        (ListsWhatIsKept, "test_an_unfinished_turn_keeps_what_its_session_stored"),
    ],
)
async def test_a_broken_store_is_caught(broken: type[Wrapped], case: str) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    assert await passes(case, MemoryStorage())
    assert not await passes(case, Storage(broken))
