"""The outcomes of effects as JSON text, and back.

What a request was is no part of an outcome: a journal refers to what was asked by hashes alone.
"""

from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from ...model.llm import LlmResponse
from ...model.records import replace
from ...ports.effects import (
    EffectControllerError,
    LlmCallOutcome,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    SleepOutcome,
    ToolAttemptOutcome,
)

_TYPES: Final[dict[RuntimeEffectKind, Any]] = {
    RuntimeEffectKind.LLM_CALL: LlmCallOutcome,
    RuntimeEffectKind.TOOL_ATTEMPT: ToolAttemptOutcome,
    RuntimeEffectKind.SLEEP: SleepOutcome,
}


def encode_outcome(kind: RuntimeEffectKind, outcome: RuntimeEffectOutcome) -> str:
    """Raises `runtime_effect_outcome_encode` for what cannot be written as JSON."""
    if isinstance(outcome, LlmCallOutcome) and isinstance(outcome.result, LlmResponse):
        outcome = replace(outcome, result=replace(outcome.result, request_body=None))
    try:
        return _adapter(kind).dump_json(outcome, by_alias=True).decode()
    except ValueError as error:
        raise EffectControllerError(
            "runtime_effect_outcome_encode", f"the outcome of a {kind.value} is no JSON: {error}"
        ) from error


def decode_outcome(kind: RuntimeEffectKind, text: str) -> RuntimeEffectOutcome:
    """Raises `runtime_effect_outcome_decode` for what this release cannot read."""
    try:
        outcome: RuntimeEffectOutcome = _adapter(kind).validate_json(text)
    except ValidationError as error:
        # Without the text: what is on record may be secret.
        raise EffectControllerError(
            "runtime_effect_outcome_decode",
            f"the recorded outcome of a {kind.value} cannot be read: "
            f"{error.error_count()} of its parts are not what they should be",
        ) from None
    return outcome


@cache
def _adapter(kind: RuntimeEffectKind) -> TypeAdapter[Any]:
    return TypeAdapter(_TYPES[kind])
