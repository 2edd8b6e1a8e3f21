"""The outcomes of effects as JSON text, and back.

What a request was is no part of an outcome: a journal refers to what was asked by hashes alone.
"""

import json
from contextlib import suppress
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from ...model.llm import LlmCallError, LlmResponse
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
    """`outcome` as it came, text that is no valid Unicode included.

    What a provider's adapter has added and JSON cannot say is left out. Raises
    `runtime_effect_outcome_encode` for anything else that it cannot.
    """
    adapter = _adapter(kind)
    outcome = _without_request(outcome)
    with suppress(ValueError):
        return adapter.dump_json(outcome, by_alias=True).decode()
    with suppress(ValueError):
        return _spelled_out(adapter, outcome)
    try:
        return _spelled_out(adapter, _without_extras(outcome))
    except ValueError as error:
        raise EffectControllerError(
            "runtime_effect_outcome_encode", f"the outcome of a {kind.value} is no JSON: {error}"
        ) from error


def decode_outcome(kind: RuntimeEffectKind, text: str) -> RuntimeEffectOutcome:
    """Raises `runtime_effect_outcome_decode` for what this release cannot read."""
    adapter = _adapter(kind)
    with suppress(ValidationError):
        outcome: RuntimeEffectOutcome = adapter.validate_json(text)
        return outcome
    try:
        outcome = adapter.validate_python(json.loads(text))
    except ValueError as error:
        problem = f"{error.error_count()} parts" if isinstance(error, ValidationError) else "JSON"
        # Without the text: what is on record may be secret.
        raise EffectControllerError(
            "runtime_effect_outcome_decode",
            f"the recorded outcome of a {kind.value} cannot be read: its {problem} are not what "
            "they should be",
        ) from None
    return outcome


def _spelled_out(adapter: TypeAdapter[Any], outcome: RuntimeEffectOutcome) -> str:
    """As JSON in ASCII, which also says what UTF-8 cannot."""
    return json.dumps(adapter.dump_python(outcome, mode="json", by_alias=True))


def _without_request(outcome: RuntimeEffectOutcome) -> RuntimeEffectOutcome:
    if not isinstance(outcome, LlmCallOutcome) or outcome.result.request_body is None:
        return outcome
    match outcome.result:
        case LlmResponse() as response:
            return replace(outcome, result=replace(response, request_body=None))
        case LlmCallError() as error:
            return replace(outcome, result=error.model_copy(update={"request_body": None}))


def _without_extras(outcome: RuntimeEffectOutcome) -> RuntimeEffectOutcome:
    if isinstance(outcome, LlmCallOutcome) and isinstance(outcome.result, LlmResponse):
        return replace(outcome, result=replace(outcome.result, provider_usage=None))
    return outcome


@cache
def _adapter(kind: RuntimeEffectKind) -> TypeAdapter[Any]:
    return TypeAdapter(_TYPES[kind])
