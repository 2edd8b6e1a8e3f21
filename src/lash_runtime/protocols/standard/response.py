"""Reads a model's response: what it said, what it wants called, and the message to keep of it.

The message holds the parts in the order in which the model produced them. Text parts carry the
newlines that part them from the text before, so that joining them gives the whole text.
"""

import hashlib
import json
from collections.abc import Set as AbstractSet
from typing import Any, Final, assert_never

from ...kernel.visible_text import normalized_response_parts, with_blank_lines_between
from ...model.llm import (
    LlmOutputPart,
    LlmResponse,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)
from ...model.messages import Message, MessageRole, Part, PartKind, part_id
from ...model.records import dataclass
from ...model.tool_results import PendingToolCall
from ...model.tool_values import compact_json
from ...model.unicode_text import storable_text, why_not_storable


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """`message` is `None` when the model produced nothing. `slices` join to the text."""

    slices: tuple[str, ...]
    calls: tuple[PendingToolCall, ...]
    message: Message | None

    @property
    def text(self) -> str:
        return "".join(self.slices)


def read_response(
    response: LlmResponse, *, message_id: str, used_call_ids: AbstractSet[str]
) -> ModelAnswer:
    """Take `response` apart. Text that is blank throughout counts as none.

    A call whose id is blank, taken or not storable gets one that derives from `message_id`, so
    that each call of a turn can be told from the others, also when the turn runs again.
    """
    produced = normalized_response_parts(response)
    slices = _slices(produced)
    spoken = iter(slices)
    calls: list[PendingToolCall] = []
    parts: list[Part] = []
    taken = set(used_call_ids)
    for output in produced:
        identity = part_id(message_id, len(parts))
        match output:
            case TextOutput(text=text, response_meta=meta):
                if not slices or not text:
                    continue
                part = Part(
                    id=identity, kind=PartKind.PROSE, content=next(spoken), response_meta=meta
                )
            case ReasoningOutput(text=text, replay=replay):
                if not text and (replay is None or replay.is_empty()):
                    continue
                part = Part(
                    id=identity,
                    kind=PartKind.REASONING,
                    content=_storable(text),
                    reasoning_meta=replay,
                )
            case ToolCallOutputPart():
                call = _pending(output, _call_id(output, message_id, len(calls), taken))
                taken.add(call.call_id)
                calls.append(call)
                part = Part(
                    id=identity,
                    kind=PartKind.TOOL_CALL,
                    content=_storable(output.input_json),
                    tool_call_id=call.call_id,
                    tool_name=call.tool_name,
                    tool_replay=output.replay,
                )
            case _:
                assert_never(output)
        parts.append(part)
    message = Message(id=message_id, role=MessageRole.ASSISTANT, parts=tuple(parts))
    return ModelAnswer(slices, tuple(calls), message if parts else None)


def _slices(produced: tuple[LlmOutputPart, ...]) -> tuple[str, ...]:
    texts = [_storable(part.text) for part in produced if isinstance(part, TextOutput)]
    texts = [text for text in texts if text]
    if not any(text.strip() for text in texts):
        return ()
    return with_blank_lines_between(texts)


def _pending(output: ToolCallOutputPart, call_id: str) -> PendingToolCall:
    args, problem = _arguments(output.input_json)
    return PendingToolCall(
        call_id=call_id,
        tool_name=_storable(output.tool_name),
        args=args,
        args_error=problem,
        replay=output.replay,
    )


def _call_id(
    output: ToolCallOutputPart, message_id: str, index: int, taken: AbstractSet[str]
) -> str:
    given = output.call_id
    if given.strip() and given not in taken and why_not_storable(given) is None:
        return given
    # A hash keeps to the characters and the length that every provider takes for an id.
    digest = hashlib.sha256(f"{message_id}:{index}".encode()).hexdigest()
    return f"call_{digest[:24]}"


def _arguments(input_json: str) -> tuple[Any, str | None]:
    """The arguments, or `{}` and what is wrong with them. No text at all means no arguments."""
    if not input_json.strip():
        return {}, None
    try:
        arguments = _STRICT.decode(input_json)
        compact_json(arguments)
    except (ValueError, RecursionError) as error:
        return {}, f"the arguments are not valid JSON: {storable_text(str(error))}"
    if arguments is None:
        return {}, None
    if not isinstance(arguments, dict):
        return {}, f"the arguments must be a JSON object, not {_json_type(arguments)}"
    return arguments, None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


# Kept, because `json.loads` makes a decoder for each call that asks for anything unusual.
_STRICT: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def _json_type(value: object) -> str:
    match value:
        case list():
            return "an array"
        case str():
            return "a string"
        case bool():
            return "a boolean"
        case _:
            return "a number"


def _storable(text: str) -> str:
    return storable_text(text, limit=len(text))
