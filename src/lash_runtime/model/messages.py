"""Messages and their parts: the unit of a transcript, as stored and as shown to a host.

Both are plain records and no pydantic models: every session in memory holds all of its transcript,
and the collector has a third as much to look at. They are written and read as strictly as models
are, as part of whatever they are in.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from ._value import (
    STRICT_RECORD,
    Value,
    absent_when_empty,
    absent_when_none,
    omitted_when_empty,
    omitted_when_none,
)
from .attachments import AttachmentRef
from .causes import MessageOrigin, PluginOrigin
from .records import dataclass, replace


class MessageRole(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    EVENT = "event"


class PartKind(StrEnum):
    TEXT = "text"
    IMAGE = "image"
    CODE = "code"
    OUTPUT = "output"
    ERROR = "error"
    PROSE = "prose"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    REASONING = "reasoning"


class ResponseTextMeta(Value):
    """Opaque facts about a text part that its provider wants back on a later request."""

    id: str | None = omitted_when_none()
    status: str | None = omitted_when_none()
    phase: str | None = omitted_when_none()
    provider_payload: str | None = omitted_when_none()
    origin_provider: str | None = omitted_when_none()
    origin_model: str | None = omitted_when_none()

    def has_phase(self, phase: str) -> bool:
        """Compare the provider's phase tag without regard to case."""
        return self.phase is not None and self.phase.lower() == phase


class ProviderReplayMeta(Value):
    """Opaque facts about a tool call that its provider wants back."""

    item_id: str | None = omitted_when_none()
    opaque: str | None = omitted_when_none()

    def is_empty(self) -> bool:
        return self.item_id is None and self.opaque is None


class ProviderReasoningReplay(Value):
    """Opaque facts about a reasoning part that its provider wants back."""

    item_id: str | None = omitted_when_none()
    encrypted_content: str | None = omitted_when_none()
    signature: str | None = omitted_when_none()
    redacted: bool = omitted_when_empty(False)
    summary: tuple[str, ...] = omitted_when_empty(())

    def is_empty(self) -> bool:
        return self == _NO_REASONING_REPLAY


_NO_REASONING_REPLAY = ProviderReasoningReplay.defaults()


class ClearedPart(Value):
    """The content was dropped from the prompt without a trace."""

    kind: Literal["cleared"] = "cleared"


class DeletedPart(Value):
    """The content was moved to an archive; the breadcrumb stays."""

    kind: Literal["deleted"] = "deleted"
    breadcrumb: str
    archive_hash: str


class SummarizedPart(Value):
    """The content was replaced by a summary; the original is in an archive."""

    kind: Literal["summarized"] = "summarized"
    summary: str
    archive_hash: str


PruneState = Annotated[ClearedPart | DeletedPart | SummarizedPart, Field(discriminator="kind")]
"""How a part was pruned from the prompt; an intact part has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of a message: text, a tool call, its result, reasoning, an image."""

    __pydantic_config__ = STRICT_RECORD

    id: str
    kind: PartKind
    content: str = ""
    attachments: Annotated[tuple[AttachmentRef, ...], absent_when_empty()] = ()
    tool_call_id: Annotated[str | None, absent_when_none()] = None
    tool_name: Annotated[str | None, absent_when_none()] = None
    tool_replay: Annotated[ProviderReplayMeta | None, absent_when_none()] = None
    prune_state: Annotated[PruneState | None, absent_when_none()] = None
    reasoning_meta: Annotated[ProviderReasoningReplay | None, absent_when_none()] = None
    response_meta: Annotated[ResponseTextMeta | None, absent_when_none()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One entry of a transcript."""

    __pydantic_config__ = STRICT_RECORD

    id: str
    role: MessageRole
    parts: tuple[Part, ...] = ()
    origin: Annotated[MessageOrigin | None, absent_when_none()] = None

    @property
    def transient(self) -> bool:
        """Shown to the model in one turn and never stored."""
        return isinstance(self.origin, PluginOrigin) and self.origin.transient

    @property
    def text(self) -> str:
        """The readable text: parts that hold prose, text or an error, joined by newlines."""
        return "\n".join(part.content for part in self.parts if part.kind in _READABLE)


_READABLE = frozenset({PartKind.TEXT, PartKind.PROSE, PartKind.ERROR, PartKind.OUTPUT})


def text_message(
    message_id: str,
    role: MessageRole,
    text: str,
    *,
    kind: PartKind = PartKind.TEXT,
    origin: MessageOrigin | None = None,
) -> Message:
    """A message of one text part, with the part id that every store expects."""
    part = Part(id=part_id(message_id, 0), kind=kind, content=text)
    return Message(id=message_id, role=role, parts=(part,), origin=origin)


def part_id(message_id: str, index: int) -> str:
    """Part ids derive from their message's id, so that replays agree on them."""
    return f"{message_id}.p{index}"


def renumber_parts(message_id: str, parts: Iterable[Part]) -> tuple[Part, ...]:
    """Give `parts` the ids they must carry inside the message `message_id`."""
    return tuple(replace(part, id=part_id(message_id, index)) for index, part in enumerate(parts))
