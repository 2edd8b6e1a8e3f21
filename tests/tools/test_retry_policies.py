"""When a failed call is made again."""

import pytest

from lash_runtime.model.tool_results import (
    RetryExhausted,
    RetrySafe,
    ToolCallOutput,
    ToolFailure,
    ToolFailureClass,
)
from lash_runtime.model.tools import IdempotentRetry, NeverRetry, SafeRetry, ToolRetryPolicy
from lash_runtime.tools import ToolResult
from lash_runtime.tools.retry import (
    attempts_allowed,
    delay_before_retry_ms,
    exhausted,
    wants_retry,
)
from tools.dispatching import failure_of


def failing(after_ms: int | None = None) -> ToolCallOutput:
    return ToolResult.retryable_failure(
        ToolFailureClass.EXTERNAL, "down", "The service is down", after_ms
    ).output


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [
        (NeverRetry(), 1),
        (SafeRetry(max_attempts=3), 3),
        (IdempotentRetry(max_attempts=1), 1),
    ],
)
def test_a_policy_says_how_many_attempts_there_are(policy: ToolRetryPolicy, attempts: int) -> None:
    """The first attempt counts."""
    assert attempts_allowed(policy) == attempts


def test_only_a_failure_that_declares_itself_safe_is_retried() -> None:
    """Anything else may have taken effect."""
    assert wants_retry(failing())
    assert not wants_retry(ToolCallOutput.success(1))
    assert not wants_retry(ToolCallOutput.cancelled("stopped"))
    assert not wants_retry(ToolResult.err("no").output)


@pytest.mark.parametrize(
    ("base", "cap", "asked", "delays"),
    [
        (100, 0, None, [100, 200, 400, 800]),
        (100, 300, None, [100, 200, 300, 300]),
        (0, 0, None, [0, 0, 0, 0]),
        (100, 0, 50, [50, 50, 50, 50]),
        (100, 300, 5_000, [300, 300, 300, 300]),
        (100, 0, 0, [0, 0, 0, 0]),
    ],
)
def test_the_wait_doubles_unless_the_failure_asks_for_another(
    base: int, cap: int, asked: int | None, delays: list[int]
) -> None:
    """A service that says when to come back knows best, but not without limit."""
    policy = SafeRetry(max_attempts=5, base_delay_ms=base, max_delay_ms=cap)

    assert [delay_before_retry_ms(policy, failing(asked), n) for n in (1, 2, 3, 4)] == delays


def test_a_call_that_used_up_its_attempts_says_so() -> None:
    """The model need not try the same thing again at once."""
    assert isinstance(failure_of(failing()).retry, RetrySafe)
    assert failure_of(exhausted(failing(), 3)).retry == RetryExhausted(attempts=3)


def test_a_success_is_never_exhausted() -> None:
    """Only failures carry a disposition."""
    assert exhausted(ToolCallOutput.success(1), 3) == ToolCallOutput.success(1)


def test_a_failure_keeps_everything_else_when_exhausted() -> None:
    """What went wrong is what the model reads."""
    failure = failure_of(exhausted(failing(), 2))
    assert failure == ToolFailure(
        class_=ToolFailureClass.EXTERNAL,
        code="down",
        message="The service is down",
        retry=RetryExhausted(attempts=2),
    )
