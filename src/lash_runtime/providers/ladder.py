"""Whether and when a failed attempt is repeated: pure decisions, no waiting.

A throttled call waits as its endpoint asked without using up an attempt, within a budget of time
and a number of times. Everything else climbs the counted ladder with growing delays.
"""

from ..model.llm import ProviderFailureKind
from ..model.llm_attempts import RetryReason
from ..model.records import dataclass
from ..ports.ids import IdSource
from ..ports.provider import AfterOutput, ProviderFailure, ProviderRetryPolicy

COURTESY_LIMIT = 8
"""Free waits for one call: an endpoint that throttles for ever must not hold it for ever."""

SHORTEST_COURTESY_S = 1.0
"""A shorter wait climbs the counted ladder: `Retry-After: 0` would spin otherwise."""

LONGEST_WAIT_S = 365 * 86_400.0
"""What an absurd or infinite header is read as, where no cap is set."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay_s`; `attempt` is the one that failed, counted from 1."""

    delay_s: float
    attempt: int
    max_attempts: int
    reason: RetryReason

    @property
    def counted(self) -> bool:
        """Whether the attempt that failed is one of those that the policy allows."""
        return self.reason is not RetryReason.THROTTLED


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The failure is final."""

    reason: RetryReason


class Ladder:
    """The bookkeeping of one call's attempts."""

    def __init__(self, policy: ProviderRetryPolicy, ids: IdSource) -> None:
        self._policy = policy
        self._ids = ids
        self._max_attempts = max(1, policy.max_attempts) if policy.enabled else 1
        self._attempt = 0
        self._waited_s = 0.0
        self._courtesies = 0

    def after(self, failure: ProviderFailure, *, output_seen: bool) -> Retry | GiveUp:
        """The next step after a classified failure."""
        if not failure.retryable:
            return GiveUp(RetryReason.NOT_RETRYABLE)
        stated = self._stated_wait(failure)
        throttled = failure.kind is ProviderFailureKind.QUOTA and stated is not None
        if output_seen and not throttled and self._policy.after_output is AfterOutput.DENY:
            return GiveUp(RetryReason.OUTPUT_OBSERVED)
        if throttled and stated is not None and self._grants(stated):
            self._waited_s += stated
            self._courtesies += 1
            return self._retry(stated, RetryReason.THROTTLED)
        if self._attempt + 1 >= self._max_attempts:
            return GiveUp(RetryReason.ATTEMPTS_EXHAUSTED)
        retry = self._retry(self._counted_delay(stated), RetryReason.RETRYABLE)
        self._attempt += 1
        return retry

    def _retry(self, delay_s: float, reason: RetryReason) -> Retry:
        return Retry(delay_s, self._attempt + 1, self._max_attempts, reason)

    def _stated_wait(self, failure: ProviderFailure) -> float | None:
        if failure.retry_after is None:
            return None
        cap_ms = self._policy.retry_after_cap_ms
        stated = min(max(0.0, failure.retry_after), LONGEST_WAIT_S)
        return stated if cap_ms is None else min(stated, cap_ms / 1000)

    def _grants(self, wait_s: float) -> bool:
        return (
            self._policy.enabled
            and wait_s >= SHORTEST_COURTESY_S
            and self._courtesies < COURTESY_LIMIT
            and self._waited_s + wait_s <= self._policy.throttle_wait_budget_ms / 1000
        )

    def _counted_delay(self, stated: float | None) -> float:
        if stated is not None and stated >= SHORTEST_COURTESY_S:
            return stated
        # The doubling is bounded: a policy of thousands of attempts would make a number of
        # thousands of bits, and the maximum applies long before.
        doubled_ms = self._policy.base_delay_ms << min(self._attempt, 40)
        backoff_ms = min(doubled_ms, self._policy.max_delay_ms)
        jitter_ms = self._policy.jitter_ms
        drawn_ms = self._ids.uniform(0, jitter_ms) if jitter_ms else 0.0
        return max(stated or 0.0, (backoff_ms + drawn_ms) / 1000)
