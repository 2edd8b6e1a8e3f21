"""What an effect was asked, as a few hashes with names.

A second run that asks for something else can then say what differs, without the first request
having been kept.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, assert_never

from ...model.canonical import canonical_hash
from ...model.llm import (
    ContentBlock,
    ImageBlock,
    LlmMessage,
    LlmRequest,
    LlmRole,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from ...ports.effect_commands import as_document
from ...ports.tools import PreparedToolCall

HASH_CHARS: Final = 16
"""Enough to tell two requests of one turn apart; nobody has an interest in forging them."""


def of_tool_call(call: PreparedToolCall) -> Mapping[str, str]:
    return {"tool": call.tool_name, "arguments": canonical_hash(call.args)[:HASH_CHARS]}


class RequestComponents:
    """The components of one turn's model requests, which have to come in their order.

    The history is hashed as a chain: each request adds the messages that the one before did not
    have. What was there before the turn is told by `base`, so that no request costs more for a
    long history.
    """

    __slots__ = ("_chain", "_hashed", "_options", "_prompt", "_tools")

    def __init__(self, base: str) -> None:
        self._chain = base
        self._hashed: int | None = None
        self._prompt = _Memo()
        self._tools = _Memo()
        self._options = _Memo()

    def of(self, request: LlmRequest) -> Mapping[str, str]:
        messages = request.messages
        new = messages[-1:] if self._hashed is None else messages[self._hashed :]
        for message in new:
            self._chain = _chained(self._chain, message)
        self._hashed = len(messages)
        options = (
            request.model,
            request.model_variant,
            request.tool_choice,
            request.generation,
            request.output_spec,
        )
        return {
            "history": f"{len(messages)}:{self._chain[:HASH_CHARS]}",
            "prompt": self._prompt.of(_system_prompt(request)),
            "tools": self._tools.of(request.tools),
            "options": self._options.of(options),
        }


class _Memo:
    """The hash of what was last asked for, which is mostly the same again."""

    __slots__ = ("_hash", "_value")

    def __init__(self) -> None:
        self._value: Any = None
        self._hash = ""

    def of(self, value: Any) -> str:
        if not self._hash or (value is not self._value and value != self._value):
            self._value = value
            self._hash = canonical_hash(as_document(value))[:HASH_CHARS]
        return self._hash


def _chained(chain: str, message: LlmMessage) -> str:
    """The chain with one more message: its role and what its blocks say."""
    said = hashlib.sha256(chain.encode())
    said.update(message.role.encode())
    for block in message.blocks:
        for text in (block.type, *_texts(block)):
            said.update(b"\x00")
            said.update(text.encode("utf-8", "surrogatepass"))
    return said.hexdigest()


def _texts(block: ContentBlock) -> tuple[str, ...]:
    match block:
        case TextBlock(text=text):
            return (text,)
        case ToolCallBlock(call_id=call_id, tool_name=tool_name, input_json=args):
            return (call_id, tool_name, args)
        case ToolResultBlock(call_id=call_id, content=content):
            return (call_id, content)
        case ReasoningBlock(text=text):
            return (text,)
        case ImageBlock(attachment_idx=index):
            return (str(index),)
        case _:
            assert_never(block)


def _system_prompt(request: LlmRequest) -> Any:
    first = request.messages[0] if request.messages else None
    return first if first is not None and first.role is LlmRole.SYSTEM else None
