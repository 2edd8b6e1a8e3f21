"""What an effect was asked, as a few hashes with names.

A second run that asks for something else can then say what differs, without the first request
having been kept.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from ...model.canonical import canonical_hash, canonical_json
from ...model.llm import LlmMessage, LlmRequest, LlmRole
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

    def __init__(self, base: str) -> None:
        self._chain = base
        self._hashed: int | None = None
        self._prompt = _Memo()
        self._tools = _Memo()

    def of(self, request: LlmRequest) -> Mapping[str, str]:
        messages = request.messages
        new = messages[-1:] if self._hashed is None else messages[self._hashed :]
        for message in new:
            self._chain = _chained(self._chain, message)
        self._hashed = len(messages)
        return {
            "history": f"{len(messages)}:{self._chain[:HASH_CHARS]}",
            "prompt": self._prompt.of(_system_prompt(request)),
            "tools": self._tools.of(request.tools),
            "options": _short(
                [
                    request.model,
                    request.model_variant,
                    request.tool_choice.value,
                    as_document(request.generation),
                    as_document(request.output_spec),
                ]
            ),
        }


class _Memo:
    """The hash of what was last asked for, which is mostly the same object again."""

    def __init__(self) -> None:
        self._value: Any = None
        self._hash = ""

    def of(self, value: Any) -> str:
        if not self._hash or value is not self._value:
            self._value, self._hash = value, _short(as_document(value))
        return self._hash


def _chained(chain: str, message: LlmMessage) -> str:
    return hashlib.sha256(chain.encode() + canonical_json(as_document(message))).hexdigest()


def _system_prompt(request: LlmRequest) -> Any:
    first = request.messages[0] if request.messages else None
    return first if first is not None and first.role is LlmRole.SYSTEM else None


def _short(value: Any) -> str:
    return canonical_hash(value)[:HASH_CHARS]
