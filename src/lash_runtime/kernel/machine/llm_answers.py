"""What a model call's answer does to its turn, before any protocol has a say.

Usage is counted whatever the answer is worth. An answer that was cut off, filtered or refused
ends the turn; only one that the model finished goes to the driver.
"""

from typing import Any, Final, assert_never

from ...model.llm import LlmResponse, LlmTerminalReason
from ...model.outcome import StopReason, stopped
from ...model.records import replace
from ...model.session_events import LlmResponseEvent, TextDeltaEvent, TokenUsageEvent
from ..error_envelopes import unusable_response_event
from .apply import apply_actions
from .context import TurnContext

CONTEXT_OVERFLOW_SHARE: Final = 0.95
"""A prompt that fills this much of the context, and leaves the model silent, was too long."""


def take_llm_response(
    turn: TurnContext, response: LlmResponse, text_streamed: bool, driver_state: Any
) -> None:
    """Count the usage, then go on from `response` or end the turn with it."""
    response = _reclassified(turn, response)
    turn.usage = turn.usage.add(response.usage)
    turn.emit(TokenUsageEvent(turn.iteration, response.usage, turn.usage))
    reason = response.terminal_reason
    match reason:
        case LlmTerminalReason.STOP | LlmTerminalReason.TOOL_USE | LlmTerminalReason.UNKNOWN:
            actions = turn.config.driver.handle_llm_response(
                turn, response, text_streamed, driver_state
            )
            apply_actions(turn, actions)
        case LlmTerminalReason.OUTPUT_LIMIT:
            _end_with_response(turn, response, text_streamed, StopReason.INCOMPLETE)
        case LlmTerminalReason.CANCELLED:
            _end_with_response(turn, response, text_streamed, StopReason.CANCELLED)
        case (
            LlmTerminalReason.CONTEXT_OVERFLOW
            | LlmTerminalReason.CONTENT_FILTER
            | LlmTerminalReason.PROVIDER_ERROR
        ):
            _end_with_response(turn, response, text_streamed, StopReason.PROVIDER_ERROR)
        case _:
            assert_never(reason)


def _reclassified(turn: TurnContext, response: LlmResponse) -> LlmResponse:
    """A silent `output_limit` on a full prompt is an overflow, whatever the provider calls it."""
    limit = turn.settings.max_context_tokens
    usage = response.usage
    if (
        response.terminal_reason is not LlmTerminalReason.OUTPUT_LIMIT
        or usage.output_tokens
        or limit is None
        or usage.input_total < CONTEXT_OVERFLOW_SHARE * limit
    ):
        return response
    return replace(
        response,
        terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW,
        terminal_diagnostic=(
            f"The prompt of {usage.input_total} tokens fills the model's context of {limit} "
            "tokens and leaves no room for an answer."
        ),
    )


def _end_with_response(
    turn: TurnContext, response: LlmResponse, text_streamed: bool, reason: StopReason
) -> None:
    """End the turn at a response that no turn can go on from; its text is shown, not kept."""
    if response.full_text and not text_streamed:
        turn.emit(TextDeltaEvent(response.full_text))
    turn.emit(LlmResponseEvent(turn.iteration, response.full_text))
    if reason is not StopReason.CANCELLED:
        ended = response.terminal_reason
        turn.emit(
            unusable_response_event(
                response.terminal_diagnostic
                or f"The model call ended with terminal reason {ended.value}.",
                code=ended.value,
                terminal_reason=ended,
            )
        )
    turn.finish(stopped(reason))
