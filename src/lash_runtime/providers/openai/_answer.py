"""An answer in the making: what chunks or a whole body say, as events and as a response.

Pure: it neither reads nor waits. It is fed decoded JSON and tolerates what real servers send:
content in parts, missing indexes, arguments as an object, two calls under one index.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...model.llm import (
    LlmOutputPart,
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    PartDelta,
    ReasoningDelta,
    ReasoningOutput,
    StreamCallback,
    TextDelta,
    TextOutput,
    ToolCallOutputPart,
    UsageDelta,
)
from ...model.llm_attempts import ExecutionEvidence
from ...model.messages import ProviderReplayMeta
from ...model.usage import NO_USAGE
from ...ports.ids import IdSource
from ..usage import merge_usage, parse_usage, stated_reasoning_tokens
from ._failures import embedded_failure
from ._replay import ENCRYPTED, ReplayRoute

TERMINAL_REASONS: Final[Mapping[str, LlmTerminalReason]] = {
    "stop": LlmTerminalReason.STOP,
    "tool_calls": LlmTerminalReason.TOOL_USE,
    "function_call": LlmTerminalReason.TOOL_USE,
    "length": LlmTerminalReason.OUTPUT_LIMIT,
    "max_tokens": LlmTerminalReason.OUTPUT_LIMIT,
    "content_filter": LlmTerminalReason.CONTENT_FILTER,
    "safety": LlmTerminalReason.CONTENT_FILTER,
}
REASONING_FIELDS: Final = ("reasoning_content", "reasoning", "reasoning_text")


@dataclass(slots=True)
class _Call:
    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Answer:
    """Collects one answer; `emit` gets its events as they come, if anyone listens."""

    def __init__(
        self,
        *,
        emit: StreamCallback | None,
        expose_thinking: bool,
        route: ReplayRoute,
        ids: IdSource,
    ) -> None:
        self._emit = emit
        self._expose_thinking = expose_thinking
        self._route = route
        self._ids = ids
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._open: dict[int, _Call] = {}
        self._details: dict[str, str] = {}
        self._usage = NO_USAGE
        self._provider_usage: dict[str, Any] | None = None
        self._refused = False
        self._served_model: str | None = None
        self._response_id: str | None = None
        self.request_id: str | None = None
        """The endpoint's id of the exchange, where a header has told it."""
        self.finish_reason = ""

    @property
    def is_empty(self) -> bool:
        """Nothing has come that a reader or a tool could use."""
        return not (self._text or self._reasoning or self._calls)

    def add_chunk(self, chunk: Any) -> None:
        """Take one event of a stream.

        Raises `ProviderFailure` when the event reports an error.
        """
        self._add(chunk, piece="delta")

    def add_body(self, body: Any) -> None:
        """Take a whole answer that came in one piece; raises as `add_chunk` does."""
        self._add(body, piece="message")

    def response(self, *, http_summary: str) -> LlmResponse:
        """The finished answer; sends its calls, which are known only at the end."""
        response = self.so_far(http_summary=http_summary)
        for part in response.parts:
            if isinstance(part, ToolCallOutputPart):
                self._send(PartDelta(part))
        return response

    def so_far(self, *, http_summary: str) -> LlmResponse:
        """What has been collected by now."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        parts: list[LlmOutputPart] = []
        if reasoning:
            parts.append(ReasoningOutput(reasoning))
        if text:
            parts.append(TextOutput(text))
        in_order = sorted(self._calls, key=lambda call: call.index)
        calls = [finished for call in in_order if (finished := self._finished(call)) is not None]
        parts.extend(calls)
        return LlmResponse(
            full_text=text,
            parts=tuple(parts),
            usage=self._usage,
            terminal_reason=self._terminal_reason(called=bool(calls)),
            terminal_diagnostic="the model refused to answer" if self._refused else None,
            provider_usage=self._provider_usage,
            http_summary=http_summary,
            evidence=ExecutionEvidence(
                served_model=self._served_model,
                provider_response_id=self._response_id,
                provider_request_id=self.request_id,
                reasoning_output_tokens=stated_reasoning_tokens(self._provider_usage or {}),
                provider_finish_reason=self.finish_reason or None,
            ),
        )

    def _add(self, data: Any, *, piece: str) -> None:
        if not isinstance(data, Mapping):
            return
        if error := data.get("error"):
            raise embedded_failure(error)
        if self._served_model is None:
            self._served_model = _stated(data.get("model"))
        if self._response_id is None:
            self._response_id = _stated(data.get("id"))
        self._add_usage(data.get("usage"))
        choices = data.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, Mapping):
                self._add_choice(choice, piece)

    def _add_choice(self, choice: Mapping[str, Any], piece: str) -> None:
        if error := choice.get("error"):
            raise embedded_failure(error)
        self._add_usage(choice.get("usage"))
        content = choice.get(piece)
        if isinstance(content, Mapping):
            self._add_message(content)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            if reason == "error":
                raise embedded_failure({"message": "the endpoint ended its answer with an error"})
            self.finish_reason = reason

    def _add_message(self, message: Mapping[str, Any]) -> None:
        for name in REASONING_FIELDS:
            value = message.get(name)
            if isinstance(value, str) and value:
                self._add_reasoning(value)
                break
        self._add_content(message.get("content"))
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal:
            self._refused = True
            self._add_text(refusal)
        calls = message.get("tool_calls")
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, Mapping):
                self._add_call(call, position)
        details = message.get("reasoning_details")
        for detail in details if isinstance(details, list) else ():
            self._add_detail(detail)

    def _add_content(self, content: Any) -> None:
        if isinstance(content, str):
            self._add_text(content)
        elif isinstance(content, list):
            for part in content:
                if not isinstance(part, Mapping):
                    continue
                if part.get("type") == "thinking":
                    self._add_reasoning(_plain(part.get("thinking")))
                else:
                    self._add_text(_plain(part.get("text")))

    def _add_text(self, text: str) -> None:
        if text:
            self._text.append(text)
            self._send(TextDelta(text))

    def _add_reasoning(self, text: str) -> None:
        if text:
            self._reasoning.append(text)
            if self._expose_thinking:
                self._send(ReasoningDelta(text))

    def _add_call(self, fragment: Mapping[str, Any], position: int) -> None:
        stated = fragment.get("index")
        index = stated if isinstance(stated, int) else position
        call_id = fragment.get("id")
        call_id = call_id if isinstance(call_id, str) else ""
        call = self._open.get(index)
        if call is None or (call_id and call.id and call_id != call.id):
            call = _Call(index)
            self._open[index] = call
            self._calls.append(call)
        call.id = call_id or call.id
        function = fragment.get("function")
        if not isinstance(function, Mapping):
            return
        name, arguments = function.get("name"), function.get("arguments")
        if isinstance(name, str) and name:
            call.name = name
        if isinstance(arguments, str):
            call.arguments += arguments
        elif arguments is not None:
            call.arguments = json.dumps(arguments)

    def _add_detail(self, detail: Any) -> None:
        if not isinstance(detail, Mapping) or detail.get("type") != ENCRYPTED:
            return
        call_id = detail.get("id")
        if isinstance(call_id, str) and isinstance(detail.get("data"), str):
            self._details[call_id] = self._route.opaque_of(detail)

    def _add_usage(self, raw: Any) -> None:
        if not isinstance(raw, Mapping):
            return
        # All of it is kept: endpoints add counters and prices that no vocabulary knows.
        self._provider_usage = (self._provider_usage or {}) | dict(raw)
        usage = merge_usage(self._usage, parse_usage(raw))
        if usage != self._usage and not usage.is_zero():
            self._usage = usage
            self._send(UsageDelta(usage))

    def _finished(self, call: _Call) -> ToolCallOutputPart | None:
        if not call.name:
            return None
        opaque = self._details.get(call.id) if call.id else None
        return ToolCallOutputPart(
            call.id or self._ids.uuid(),
            call.name,
            call.arguments or "{}",
            ProviderReplayMeta(opaque=opaque) if opaque is not None else None,
        )

    def _terminal_reason(self, *, called: bool) -> LlmTerminalReason:
        if not self.finish_reason:
            return LlmTerminalReason.TOOL_USE if called else LlmTerminalReason.STOP
        return TERMINAL_REASONS.get(self.finish_reason.lower(), LlmTerminalReason.PROVIDER_ERROR)

    def _send(self, event: LlmStreamEvent) -> None:
        if self._emit is not None:
            self._emit(event)


def _stated(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _plain(value: Any) -> str:
    """The text of a part: itself, or that of the parts in it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_plain(part.get("text")) for part in value if isinstance(part, Mapping))
    return ""
