"""A request's messages as Chat Completions takes them.

A tool result is a message of its own and goes before the message it sits in; reasoning is not
sent; images go to the model in user messages alone. A message that is left with nothing is left
out.
"""

import base64
import json
from typing import Any, Final

from ...model.llm import (
    ImageBlock,
    LlmAttachment,
    LlmMessage,
    LlmRequest,
    LlmRole,
    ProviderFailureKind,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from ...ports.provider import ProviderFailure
from ._replay import ReplayRoute

IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")


class Conversation:
    """Messages in the making, with the places where a cache marker may go."""

    def __init__(self, request: LlmRequest, route: ReplayRoute) -> None:
        self.first_system_text: dict[str, Any] | None = None
        self.last_text: dict[str, Any] | None = None
        self.last_marked_text: dict[str, Any] | None = None
        self._images = _data_urls(request.attachments)
        self._route = route
        self._messages: list[dict[str, Any]] = []
        for message in request.messages:
            self._add(message)

    def render(self) -> list[dict[str, Any]]:
        """The finished messages; a lone text part without a marker is sent as a string."""
        return [message | {"content": _content(message["content"])} for message in self._messages]

    def _add(self, message: LlmMessage) -> None:
        parts: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        details: list[dict[str, Any]] = []
        for block in message.blocks:
            match block:
                case TextBlock():
                    if block.text:
                        parts.append(self._text(block, message.role))
                case ImageBlock(attachment_idx=index):
                    if message.role is LlmRole.USER:
                        parts.append(
                            {"type": "image_url", "image_url": {"url": self._image(index)}}
                        )
                case ToolCallBlock():
                    calls.append(_tool_call(block))
                    if (detail := self._route.detail_of(block.replay)) is not None:
                        details.append(detail)
                case ToolResultBlock():
                    self._messages.append(_tool_result(block))
                case ReasoningBlock():
                    pass
        if not parts and not calls:
            return
        entry: dict[str, Any] = {"role": message.role.value, "content": parts}
        if calls:
            entry["tool_calls"] = calls
        if details:
            entry["reasoning_details"] = details
        self._messages.append(entry)

    def _text(self, block: TextBlock, role: LlmRole) -> dict[str, Any]:
        part: dict[str, Any] = {"type": "text", "text": block.text}
        if role is LlmRole.SYSTEM:
            self.first_system_text = self.first_system_text or part
        else:
            self.last_text = part
            if block.cache_breakpoint:
                self.last_marked_text = part
        return part

    def _image(self, index: int) -> str:
        if not 0 <= index < len(self._images):
            raise ProviderFailure(
                f"a message shows attachment {index}, but the request has {len(self._images)}",
                kind=ProviderFailureKind.VALIDATION,
                code="attachment_missing",
                retryable=False,
            )
        return self._images[index]


def _content(parts: list[dict[str, Any]] | str) -> list[dict[str, Any]] | str | None:
    if isinstance(parts, str):  # of a tool: an empty result is still a result
        return parts
    if not parts:
        return None
    only = parts[0]
    if len(parts) == 1 and only["type"] == "text" and "cache_control" not in only:
        return str(only["text"])
    return parts


def _tool_call(block: ToolCallBlock) -> dict[str, Any]:
    return {
        "id": block.call_id,
        "type": "function",
        "function": {"name": block.tool_name, "arguments": _arguments(block.input_json)},
    }


def _arguments(input_json: str) -> str:
    """The model's own text, unless it is no JSON: several endpoints fail the whole request then."""
    try:
        json.loads(input_json)
    except ValueError:
        return json.dumps({"malformed_arguments": input_json}) if input_json.strip() else "{}"
    return input_json


def _tool_result(block: ToolResultBlock) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "tool",
        "tool_call_id": block.call_id,
        "content": block.content,
    }
    if block.tool_name is not None:
        message["name"] = block.tool_name
    return message


def _data_urls(attachments: tuple[LlmAttachment, ...]) -> list[str]:
    """All attachments are checked, whether a message shows them or not."""
    urls = []
    for index, attachment in enumerate(attachments):
        mime = attachment.mime.strip().lower()
        mime = "image/jpeg" if mime == "image/jpg" else mime
        if mime not in IMAGE_TYPES:
            raise ProviderFailure(
                f"OpenAI-compatible endpoints take no {attachment.mime!r} (attachment {index}); "
                f"accepted: {', '.join(IMAGE_TYPES)}",
                kind=ProviderFailureKind.VALIDATION,
                code="unsupported_image_format",
                retryable=False,
            )
        if not attachment.data:
            raise ProviderFailure(
                f"attachment {index} has no bytes",
                kind=ProviderFailureKind.VALIDATION,
                code="attachment_missing",
                retryable=False,
            )
        urls.append(f"data:{mime};base64,{base64.b64encode(attachment.data).decode('ascii')}")
    return urls
