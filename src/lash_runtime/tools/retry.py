"""When a failed call is made again, and how long that waits.

Only a failure that declares itself safe is retried, and only under a policy that allows it.
Attempts count from 1.
"""

from typing import assert_never

from ..model.tool_results import RetryExhausted, RetrySafe, ToolCallOutput, ToolFailed
from ..model.tools import IdempotentRetry, NeverRetry, SafeRetry, ToolRetryPolicy


def attempts_allowed(policy: ToolRetryPolicy) -> int:
    match policy:
        case NeverRetry():
            return 1
        case SafeRetry(max_attempts=attempts) | IdempotentRetry(max_attempts=attempts):
            return attempts
        case _:
            assert_never(policy)


def is_repeatable(policy: ToolRetryPolicy) -> bool:
    """Whether the tool recognises a repeated call, so that any failure of it may be retried."""
    return isinstance(policy, IdempotentRetry)


def wants_retry(output: ToolCallOutput) -> bool:
    """Whether this is a failure that declares that the call may be made again."""
    match output.outcome:
        case ToolFailed(payload=failure):
            return isinstance(failure.retry, RetrySafe)
        case _:
            return False


def delay_before_retry_ms(policy: ToolRetryPolicy, output: ToolCallOutput, attempt: int) -> int:
    """How long to wait after `attempt` has failed with `output`: what the failure asks for, else
    twice as long each time, within the policy's cap."""
    if isinstance(policy, NeverRetry):
        return 0
    delay = policy.base_delay_ms << (attempt - 1)
    match output.outcome:
        case ToolFailed(payload=failure):
            if isinstance(failure.retry, RetrySafe) and failure.retry.after_ms is not None:
                delay = failure.retry.after_ms
    return min(delay, policy.max_delay_ms) if policy.max_delay_ms else delay


def exhausted(output: ToolCallOutput, attempts: int) -> ToolCallOutput:
    """The output of a call that has used up its attempts: the model need not try again."""
    match output.outcome:
        case ToolFailed(payload=failure):
            failure = failure.model_copy(update={"retry": RetryExhausted(attempts=attempts)})
            return output.model_copy(update={"outcome": ToolFailed(payload=failure)})
        case _:
            return output
