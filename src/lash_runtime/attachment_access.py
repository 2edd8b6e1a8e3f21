"""The attachments of a core and of a session, as a host reads, puts and sweeps them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from ._arguments import a_text, an
from ._translation import translated
from .model.attachments import AttachmentRef
from .ports.attachments import Attachments, StoredAttachment
from .runtime.attachment_sweep import AttachmentSweepReport, sweep_attachments
from .runtime.environment import RuntimeEnvironment


class CoreAttachmentAccess:
    """Reads the images of all sessions. `core.attachments`."""

    __slots__ = ("_started",)

    def __init__(self, started: Callable[[], Awaitable[RuntimeEnvironment]]) -> None:
        self._started = started

    async def get(self, attachment: AttachmentRef | str) -> StoredAttachment:
        """The bytes and what is known of them, by a reference of a transcript or by its id.

        Raises `AttachmentFailure("attachment_not_found")` for one that is not stored.
        """
        _check(attachment)
        with translated():
            env = await self._started()
            name = attachment if isinstance(attachment, str) else attachment.id
            return await env.attachments.get(name)

    async def sweep(
        self, older_than: timedelta, *, unmentioned: bool = False
    ) -> AttachmentSweepReport:
        """Remove images that were stored longer than `older_than` ago and that no session
        keeps: those of turns that were refused, and uploads that no turn ever said.

        Safe at any time, beside turns and other sweeps, in any number of processes: what a
        transcript or an unfinished turn of this core's storage refers to stays. Choose
        `older_than` longer than a host may hold an upload before its turn; a day is usual.

        `unmentioned` also removes what no session mentions at all. Use it only where this
        core's storage is all that refers to the attachment store.

        Raises `AttachmentFailure("attachment_sweep_unsupported")` where the store or the
        sessions' storage offers no sweep. A failure stops the sweep; sweeping again goes on.
        """
        an(timedelta, older_than, "older_than is a timedelta")
        with translated():
            env = await self._started()
            age_ms = round(older_than.total_seconds() * 1000)
            return await sweep_attachments(
                env.session_stores,
                env.attachments,
                older_than_epoch_ms=env.clock.timestamp_ms() - age_ms,
                sweep_id=env.ids.hex(),
                unmentioned=unmentioned,
            )


class SessionAttachmentAccess:
    """Puts and reads the images of one session. `session.attachments`."""

    __slots__ = ("_attachments",)

    def __init__(self, attachments: Callable[[], Attachments]) -> None:
        self._attachments = attachments

    async def put(
        self, data: bytes, mime: str | None = None, *, label: str | None = None
    ) -> AttachmentRef:
        """Store an image for a turn to show: `TurnInput.of("What is this?", ref)`.

        Without `mime` the type is read from the bytes. The image stays once a turn has said
        it; until then a sweep may remove it when it is old. Raises
        `AttachmentFailure("attachment_invalid")` for bytes that cannot be carried.
        """
        an((bytes, bytearray, memoryview), data, "an image is given as its bytes")
        for name, value in (("mime", mime), ("label", label)):
            if value is not None:
                a_text(value, name)
        with translated():
            return await self._attachments().put(data, mime, label=label)

    async def get(self, attachment: AttachmentRef | str) -> StoredAttachment:
        """The bytes and what is known of them, by a reference of the transcript or by its id.

        Raises `AttachmentFailure("attachment_not_found")` for one that is not stored.
        """
        _check(attachment)
        with translated():
            return await self._attachments().get(attachment)


def _check(attachment: AttachmentRef | str) -> None:
    an((str, AttachmentRef), attachment, "an attachment is named by its AttachmentRef or its id")
