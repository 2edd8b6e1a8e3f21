"""Collects what a model streams, and settles it with what the call returns in the end.

Rule 1: a delta is appended, always; that it repeats what came before says nothing.
Rule 2: a part reconciles: it may repeat, extend or replace what deltas have brought, and what
it brings besides (ids, signatures, encrypted reasoning) is kept.
Rule 3: the response a provider returns has the last word on what it contains, and nothing that
was streamed is lost because the response lacks it.
"""

from collections.abc import Sequence

from ..model.llm import (
    LlmOutputPart,
    LlmResponse,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)
from ..model.messages import ProviderReasoningReplay, ResponseTextMeta
from ..model.records import replace
from .visible_text import visible_response_text


class _Growing:
    """Text that comes in pieces; joined when somebody asks."""

    __slots__ = ("_pieces",)

    def __init__(self, text: str) -> None:
        self._pieces = [text]

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    @text.setter
    def text(self, text: str) -> None:
        self._pieces = [text]

    def append(self, piece: str) -> None:
        self._pieces.append(piece)


class _GrowingText(_Growing):
    """`settled` is how much of the text a snapshot has confirmed; the rest came as deltas."""

    __slots__ = ("meta", "settled")

    def __init__(self, text: str, meta: ResponseTextMeta | None) -> None:
        super().__init__(text)
        self.meta = meta
        self.settled = 0

    @property
    def item_id(self) -> str | None:
        return None if self.meta is None else self.meta.id

    def settle(self, text: str) -> None:
        self.text = text
        self.settled = len(text)

    def give_up(self, text: str) -> None:
        """Give up the deltas after the settled text if another item's `text` has them."""
        tail = self.text[self.settled :]
        if tail and text.startswith(tail):
            self.text = self.text[: self.settled]

    def output(self) -> TextOutput:
        return TextOutput(self.text, self.meta)


class _GrowingReasoning(_Growing):
    __slots__ = ("replay",)

    def __init__(self, text: str, replay: ProviderReasoningReplay | None) -> None:
        super().__init__(text)
        self.replay = replay

    @property
    def is_display_only(self) -> bool:
        return self.replay is None

    def output(self) -> ReasoningOutput:
        return ReasoningOutput(self.text, self.replay)


class StreamAccumulator:
    """The output parts of one attempt at a model call, in the order in which they began."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[_GrowingText | _GrowingReasoning | ToolCallOutputPart] = []

    @property
    def parts(self) -> tuple[LlmOutputPart, ...]:
        return tuple(
            part if isinstance(part, ToolCallOutputPart) else part.output() for part in self._parts
        )

    def push_text(self, text: str) -> None:
        """A delta: it joins the text that is being written, or begins a new one. O(1)."""
        last = self._last
        if isinstance(last, _GrowingText):
            last.append(text)
        elif text:
            self._parts.append(_GrowingText(text, None))

    def push_text_part(self, text: str, meta: ResponseTextMeta | None) -> None:
        """A part. With an item id it is a snapshot of that item; without one it is either all
        of the text so far, or the next piece of it."""
        item_id = None if meta is None else meta.id
        known = self._text_to_reconcile(item_id)
        if known is None:
            if text or meta is not None:
                self._begin_text(text, meta)
            return
        if meta is not None:
            known.meta = meta
        if item_id is not None:
            known.settle(text or known.text)
        elif text.startswith(known.text):
            known.text = text
        else:
            known.append(text)

    def push_reasoning(self, text: str, replay: ProviderReasoningReplay | None) -> None:
        """A delta when `replay` is `None`, else a part, which may enrich what deltas brought."""
        if replay is not None and not replay.is_empty():
            self._push_replayable(text, replay)
            return
        last = self._last
        if not text:
            return
        if isinstance(last, _GrowingReasoning) and (last.is_display_only or not last.text):
            last.append(text)
        else:
            self._parts.append(_GrowingReasoning(text, None))

    def push_tool_call(self, part: ToolCallOutputPart) -> None:
        self._parts.append(part)

    def apply_to_response(self, response: LlmResponse) -> LlmResponse:
        """`response` with whatever was streamed and it does not contain, in order."""
        streamed = self.parts
        if not streamed:
            return _with_full_text(response)
        final = response.parts
        if not final and response.full_text:
            final = (TextOutput(response.full_text),)
        if response.parts and all(_contains(final, part) for part in streamed):
            return _with_full_text(response)
        kept_text = "" if response.parts else response.full_text
        return _with_full_text(
            replace(response, parts=_merged(streamed, final), full_text=kept_text)
        )

    @property
    def _last(self) -> _GrowingText | _GrowingReasoning | ToolCallOutputPart | None:
        return self._parts[-1] if self._parts else None

    def _begin_text(self, text: str, meta: ResponseTextMeta | None) -> None:
        """Begin a new item. Its deltas may have come already, and then they were taken for
        more of the item before it."""
        last = self._last
        if isinstance(last, _GrowingText):
            last.give_up(text)
        part = _GrowingText("", meta)
        part.settle(text)
        self._parts.append(part)

    def _text_to_reconcile(self, item_id: str | None) -> _GrowingText | None:
        texts = [part for part in self._parts if isinstance(part, _GrowingText)]
        if item_id is None:
            return texts[-1] if texts else None
        for part in texts:
            if part.item_id == item_id:
                return part
        if texts and texts[-1].meta is None:
            return texts[-1]
        return None

    def _push_replayable(self, text: str, replay: ProviderReasoningReplay) -> None:
        shown = self._reasoning_repeated_by(text)
        if shown is None:
            self._parts.append(_GrowingReasoning(text, replay))
            return
        shown.replay = replay
        if text:
            shown.text = text

    def _reasoning_repeated_by(self, text: str) -> _GrowingReasoning | None:
        """The display-only reasoning that a part with `text` belongs to."""
        if not text:
            last = self._last
            fits = isinstance(last, _GrowingReasoning) and last.is_display_only
            return last if fits and isinstance(last, _GrowingReasoning) else None
        for part in reversed(self._parts):
            if isinstance(part, _GrowingReasoning) and part.is_display_only and part.text in text:
                return part
        return None


def _with_full_text(response: LlmResponse) -> LlmResponse:
    """`response` with the text of its parts, unless it says its text itself."""
    if response.full_text or not response.parts:
        return response
    return replace(response, full_text=visible_response_text(response.parts))


def _contains(final: Sequence[LlmOutputPart], streamed: LlmOutputPart) -> bool:
    match streamed:
        case TextOutput(text=text):
            return text in "".join(part.text for part in final if isinstance(part, TextOutput))
        case ReasoningOutput(text=text, replay=replay):
            return any(
                isinstance(part, ReasoningOutput)
                and text in part.text
                and (replay is None or replay == part.replay)
                for part in final
            )
        case ToolCallOutputPart():
            return any(_same_call(part, streamed) for part in final)


def _same_call(part: LlmOutputPart, call: ToolCallOutputPart) -> bool:
    if not isinstance(part, ToolCallOutputPart):
        return False
    if part.call_id and part.call_id == call.call_id:
        return True
    if part.replay is None or call.replay is None or part.replay.item_id is None:
        return False
    return part.replay.item_id == call.replay.item_id


def _merged(
    streamed: Sequence[LlmOutputPart], final: Sequence[LlmOutputPart]
) -> tuple[LlmOutputPart, ...]:
    """The streamed parts, each replaced by the final part that is a later state of it, then
    what only the response has."""
    merged = list(streamed)
    for part in final:
        at = next((i for i, known in enumerate(merged) if _supersedes(part, known)), None)
        if at is not None:
            merged[at] = part
        elif not _contains(merged, part):
            merged.append(part)
    return tuple(merged)


def _supersedes(final: LlmOutputPart, streamed: LlmOutputPart) -> bool:
    match final, streamed:
        case TextOutput(), TextOutput():
            keeps_meta = final.response_meta is not None or streamed.response_meta is None
            return bool(streamed.text) and final.text.startswith(streamed.text) and keeps_meta
        case ReasoningOutput(), ReasoningOutput():
            keeps_replay = final.replay is not None or streamed.replay is None
            return bool(streamed.text) and streamed.text in final.text and keeps_replay
        case _, ToolCallOutputPart():
            return _same_call(final, streamed)
        case _:
            return False
