"""How fast one process may call: a number of calls at once, requests and tokens per window.

Rule 1: an admission is charged to all windows or to none.
Rule 2: waiting is first come, first served.
Rule 3: cancelled while waiting means nothing was taken.
The state belongs to one event loop; it is created by the first limited call.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from ..model.llm import ImageBlock, LlmMessage, LlmRequest, ReasoningBlock, TextBlock, ToolCallBlock
from ..ports.clock import Clock
from ..ports.provider_options import DEFAULT_WINDOW_MS, ProviderRateLimitPolicy

IMAGE_BLOCK_COST = 256


@dataclass(slots=True)
class _Window:
    """A fixed window: `used` of `limit` until `resets_at`."""

    limit: int
    length_s: float
    used: int = 0
    resets_at: float = 0.0

    def wait(self, now: float, cost: int) -> float:
        """Seconds until `cost` fits; an oversized cost takes one whole empty window."""
        if now >= self.resets_at or self.used + min(cost, self.limit) <= self.limit:
            return 0.0
        return self.resets_at - now

    def charge(self, now: float, cost: int) -> None:
        if now >= self.resets_at:
            self.used = 0
            self.resets_at = now + self.length_s
        self.used += min(cost, self.limit)


class RateLimiter:
    """Admits one attempt at a time to a provider, as a policy allows."""

    def __init__(self, policy: ProviderRateLimitPolicy, clock: Clock) -> None:
        self._clock = clock
        self._policy = ProviderRateLimitPolicy()
        self._slots: anyio.CapacityLimiter | None = None
        self._queue: anyio.Lock | None = None
        self._windows: tuple[tuple[_Window, bool], ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.configure(policy)

    def configure(self, policy: ProviderRateLimitPolicy) -> None:
        """Use `policy` from the next admission on; calls already admitted keep their place."""
        if policy.max_concurrency != self._policy.max_concurrency:
            self._slots = None
        if self._window_facts(policy) != self._window_facts(self._policy):
            requests, tokens = self._window_facts(policy)
            self._windows = tuple(
                (_Window(limit, length_s), by_tokens)
                for (limit, length_s), by_tokens in ((requests, False), (tokens, True))
                if limit
            )
        self._policy = policy

    def use_clock(self, clock: Clock) -> None:
        """Tell time by `clock` from now on; what was charged so far starts over with it."""
        if clock is self._clock:
            return
        self._clock = clock
        for window, _ in self._windows:
            window.used, window.resets_at = 0, 0.0

    @asynccontextmanager
    async def admitted(self, request: LlmRequest) -> AsyncIterator[None]:
        """Hold a permit for one attempt; waits for it, and returns it on every exit.

        Raises `RuntimeError` when limits are set and a second event loop uses them.
        """
        if self._policy.is_unlimited():
            yield
            return
        self._bind_loop()
        if not self._policy.max_concurrency:
            await self._pass_windows(request)
            yield
            return
        if self._slots is None:
            self._slots = anyio.CapacityLimiter(self._policy.max_concurrency)
        slots, borrower = self._slots, object()  # one task may hold several permits
        await slots.acquire_on_behalf_of(borrower)
        try:
            await self._pass_windows(request)
            yield
        finally:
            slots.release_on_behalf_of(borrower)

    async def _pass_windows(self, request: LlmRequest) -> None:
        if not self._windows:
            return
        if self._queue is None:
            self._queue = anyio.Lock()
        async with self._queue:  # held while waiting: whoever came later waits behind us
            while True:
                windows = self._windows
                costs = [token_estimate(request) if by_tokens else 1 for _, by_tokens in windows]
                now = self._clock.now()
                wait = max(
                    (
                        window.wait(now, cost)
                        for (window, _), cost in zip(windows, costs, strict=True)
                    ),
                    default=0.0,
                )
                if wait <= 0:
                    for (window, _), cost in zip(windows, costs, strict=True):
                        window.charge(now, cost)
                    return
                await self._clock.sleep_until(now + wait)

    def _bind_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "the rate limits of this provider belong to another event loop: "
                "build one provider for each loop"
            )

    @staticmethod
    def _window_facts(policy: ProviderRateLimitPolicy) -> tuple[tuple[int, float], ...]:
        return (
            (policy.requests_per_window or 0, _window_s(policy.request_window_ms)),
            (policy.tokens_per_window or 0, _window_s(policy.token_window_ms)),
        )


def token_estimate(request: LlmRequest) -> int:
    """Roughly how many tokens the request costs: a quarter of its size in bytes, at least 1."""
    size = len(request.model.encode())
    size += sum(_message_size(message) for message in request.messages)
    size += sum(len(attachment.data) // 4 for attachment in request.attachments)
    return max(1, size // 4)


def _message_size(message: LlmMessage) -> int:
    size = 0
    for block in message.blocks:
        if isinstance(block, TextBlock | ReasoningBlock):
            size += len(block.text.encode())
        elif isinstance(block, ImageBlock):
            size += IMAGE_BLOCK_COST
        elif isinstance(block, ToolCallBlock):
            size += len(block.input_json.encode())
        else:
            size += len(block.content.encode())
    return size


def _window_s(milliseconds: int | None) -> float:
    return max(1, milliseconds or DEFAULT_WINDOW_MS) / 1000
