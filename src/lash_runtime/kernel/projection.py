"""Messages as the model is shown them, each rendered once in the life of a session.

Rendering is a pure function of one message, so what was rendered stays rendered: a session of
thousands of messages renders only those that came since the last call. The cache is checked by
identity against the sequence it was made from and is cut back to what both have in common, so
it can only ever save work.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..model.attachments import AttachmentRef
from ..model.causes import TurnCause
from ..model.llm import (
    ContentBlock,
    ImageBlock,
    LlmAttachment,
    LlmMessage,
    LlmRole,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from ..model.messages import (
    ClearedPart,
    DeletedPart,
    Message,
    MessageRole,
    Part,
    PartKind,
    SummarizedPart,
)
from ..model.records import dataclass
from .shared_sequence import SharedSequence
from .turn_causes import render_turn_causes

_ROLES: Final = {
    MessageRole.USER: LlmRole.USER,
    MessageRole.ASSISTANT: LlmRole.ASSISTANT,
    MessageRole.SYSTEM: LlmRole.SYSTEM,
    MessageRole.EVENT: LlmRole.USER,
}
_PREFIXES: Final = {
    MessageRole.SYSTEM: "Runtime note:\n",
    MessageRole.EVENT: "Runtime event:\n",
}
_PLAIN: Final = frozenset({PartKind.TEXT, PartKind.PROSE})
"""The kinds whose text a provider may want its own metadata back with."""
_IMAGE_PLACEHOLDER: Final = "[Image attached]"


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A prompt: its messages, and the attachments that their image blocks point into."""

    messages: tuple[LlmMessage, ...]
    attachments: tuple[LlmAttachment, ...]


_Mark = tuple[int, int]
"""How many rendered messages and attachments the cache holds after one message; what lies beyond
belongs to later ones. A plain tuple, because the collector does not look at those again."""


class ChatProjection:
    """Renders the transcript of one session. Keep it as long as the session is in memory."""

    __slots__ = ("_attachment_index", "_attachments", "_marks", "_rendered", "_source", "_system")

    def __init__(self) -> None:
        self._source: SharedSequence[Message] = SharedSequence()
        self._marks: list[_Mark] = []
        self._rendered: list[LlmMessage] = []
        self._attachments: list[LlmAttachment] = []
        self._attachment_index: dict[str, int] = {}
        self._system: tuple[str, tuple[LlmMessage, ...]] = ("", ())

    def render(
        self,
        messages: SharedSequence[Message],
        system_prompt: str = "",
        turn_causes: Sequence[TurnCause] = (),
    ) -> RenderedChat:
        """The prompt for `messages`; costs the rendering of new messages and one tuple copy."""
        self._forget_beyond(self._common_length(messages))
        for message in messages[len(self._marks) :]:
            self._add(message)
        self._source = messages
        history: Iterable[LlmMessage] = self._rendered
        if turn_causes:
            history = (*self._without(turn_causes), _causes_block(turn_causes))
        return RenderedChat(
            (*self._system_block(system_prompt), *history), tuple(self._attachments)
        )

    def _common_length(self, messages: SharedSequence[Message]) -> int:
        """How many of the messages rendered so far are the very ones `messages` begins with."""
        known = len(self._marks)
        if messages.grew_from(self._source):
            return known
        if self._source.grew_from(messages):
            return len(messages)
        pairs = zip(self._source[:], messages[:], strict=False)
        for index, (ours, theirs) in enumerate(pairs):
            if ours is not theirs:
                return index
        return min(known, len(messages))

    def _forget_beyond(self, length: int) -> None:
        if length == len(self._marks):
            return
        rendered, attachments = self._marks[length - 1] if length else (0, 0)
        del self._marks[length:]
        del self._rendered[rendered:]
        for attachment in self._attachments[attachments:]:
            if attachment.reference is not None:
                del self._attachment_index[attachment.reference.id]
        del self._attachments[attachments:]

    def _add(self, message: Message) -> None:
        parts = message.parts
        if len(parts) == 1 and parts[0].kind in _PLAIN:
            # Most messages are one text; this path is what a long history takes to render.
            blocks = _plain_blocks(message.role, parts[0])
        else:
            blocks = tuple(self._blocks(message))
        if blocks:
            self._rendered.append(LlmMessage(_ROLES[message.role], blocks))
        self._marks.append((len(self._rendered), len(self._attachments)))

    def _blocks(self, message: Message) -> Iterator[ContentBlock]:
        images: list[ContentBlock] = []
        for part in message.parts:
            match part.kind:
                case PartKind.REASONING:
                    meta = part.reasoning_meta
                    if meta is not None and not meta.is_empty():
                        yield ReasoningBlock(part.content, meta)
                case PartKind.TOOL_CALL:
                    yield ToolCallBlock(
                        part.tool_call_id or "",
                        part.tool_name or "",
                        part.content,
                        part.tool_replay,
                    )
                case PartKind.TOOL_RESULT:
                    yield ToolResultBlock(
                        part.tool_call_id or "", _shown_content(part), part.tool_name
                    )
                    if part.attachments and part.prune_state is None:
                        images.append(TextBlock(_image_label(part)))
                        images.extend(self._images(part.attachments))
                case PartKind.IMAGE if part.prune_state is None:
                    if message.role is MessageRole.USER and part.attachments:
                        yield from self._images(part.attachments)
                    else:
                        yield TextBlock(_IMAGE_PLACEHOLDER)
                case _:
                    yield from _plain_blocks(message.role, part)
        # Providers want the results of a batch together and in front, whatever they carry.
        yield from images

    def _images(self, references: Iterable[AttachmentRef]) -> Iterator[ImageBlock]:
        for reference in references:
            index = self._attachment_index.get(reference.id)
            if index is None:
                index = len(self._attachments)
                self._attachment_index[reference.id] = index
                self._attachments.append(
                    LlmAttachment(mime=reference.media_type.mime, reference=reference)
                )
            yield ImageBlock(index)

    def _without(self, causes: Sequence[TurnCause]) -> Iterator[LlmMessage]:
        """The history without the event messages of `causes`, which are shown in full below.

        Event messages hold no attachments, so leaving one out moves no index.
        """
        hidden = {cause.id for cause in causes}
        start = 0
        for message, (rendered, _) in zip(self._source, self._marks, strict=True):
            if not (message.role is MessageRole.EVENT and message.id in hidden):
                yield from self._rendered[start:rendered]
            start = rendered

    def _system_block(self, system_prompt: str) -> tuple[LlmMessage, ...]:
        text, block = self._system
        if text != system_prompt:
            shown = system_prompt.strip()
            block = (LlmMessage.text(LlmRole.SYSTEM, system_prompt),) if shown else ()
            self._system = (system_prompt, block)
        return block


def _causes_block(causes: Sequence[TurnCause]) -> LlmMessage:
    return LlmMessage.text(LlmRole.USER, render_turn_causes(causes))


def _image_label(part: Part) -> str:
    return f"[Images from {part.tool_name or 'tool'}, call {part.tool_call_id or ''}]"


def _plain_blocks(role: MessageRole, part: Part) -> tuple[ContentBlock, ...]:
    text = _text(role, part)
    if text is None:
        return ()
    return (TextBlock(text, part.response_meta if part.kind in _PLAIN else None),)


def _text(role: MessageRole, part: Part) -> str | None:
    """The text of a part with what tells the model where it comes from; `None` when blank."""
    content = part.content if part.prune_state is None else _shown_content(part)
    if not content or content.isspace():
        return None
    if role is MessageRole.SYSTEM and part.kind in (PartKind.OUTPUT, PartKind.ERROR):
        content = f"<{part.kind.value}>\n{content}\n</{part.kind.value}>"
    prefix = _PREFIXES.get(role)
    return content if prefix is None else prefix + content


def _shown_content(part: Part) -> str:
    match part.prune_state:
        case None:
            return part.content
        case ClearedPart():
            return "[Old tool result content cleared]"
        case DeletedPart(breadcrumb=breadcrumb, archive_hash=archive_hash):
            return f"[pruned:{archive_hash} — {breadcrumb}]"
        case SummarizedPart(summary=summary, archive_hash=archive_hash):
            return f"[SUMMARY of original {archive_hash}]\n{summary}"
