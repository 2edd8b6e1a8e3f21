"""What the sessions of one memory storage say together about attachments."""

from collections.abc import Sequence

from ._library import Library


class MemoryAttachmentReferences:
    """The `AttachmentReferences` of a storage; part of its session store factory."""

    def __init__(self, library: Library) -> None:
        self._library = library

    async def list_abandoned(self, older_than_epoch_ms: int) -> Sequence[str]:
        meant = {
            entry.attachment_id
            for book in self._library.books()
            for entry in book.attachments.uncommitted(older_than_epoch_ms)
        }
        return [name for name in meant if not self._is_kept(name, older_than_epoch_ms)]

    async def kept_of(
        self, attachment_ids: Sequence[str], older_than_epoch_ms: int
    ) -> frozenset[str]:
        return frozenset(
            name for name in attachment_ids if self._is_kept(name, older_than_epoch_ms)
        )

    async def forget_abandoned(
        self, attachment_ids: Sequence[str], older_than_epoch_ms: int
    ) -> frozenset[str]:
        gone = frozenset(
            name for name in attachment_ids if not self._is_kept(name, older_than_epoch_ms)
        )
        for book in self._library.books():
            for name in gone:
                book.attachments.forget(name)
        return gone

    def _is_kept(self, attachment_id: str, older_than_epoch_ms: int) -> bool:
        return any(
            book.attachments.keeps(
                attachment_id,
                older_than_epoch_ms,
                working=bool(book.turns.unfinished()) or book.inputs.is_unfinished,
            )
            for book in self._library.books()
        )
