"""A model that says what a script tells it to: no network, no weights, the same every time.

Calls are answered in order. A request is kept, so that a test can look at what was asked.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from anyio.lowlevel import checkpoint

from ..model.llm import (
    LlmRequest,
    LlmResponse,
    LlmStreamEvent,
    ProviderFailureKind,
    StreamCallback,
)
from ..model.usage import NO_USAGE, LlmUsage
from ..ports.clock import Clock, SystemClock
from ..ports.provider import ProviderFailure, ProviderOptions
from .replies import stream_text, text_response, tool_call_response

YIELD_EVERY: Final = 64
"""Events sent before the loop gets a turn: a real socket also delivers in bursts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The answer to one call: `stream` is sent first, if anyone listens, then `result`.

    `delay_s` passes before each stream event, and once before the result when nothing streams.
    An exception as `result` is raised.
    """

    result: LlmResponse | Exception = field(default_factory=LlmResponse)
    stream: Iterable[LlmStreamEvent] = ()
    delay_s: float = 0.0

    @classmethod
    def text(
        cls,
        text: str,
        *,
        chunk: int | None = None,
        delay_s: float = 0.0,
        usage: LlmUsage = NO_USAGE,
    ) -> Self:
        """Answer `text`, streamed in pieces of `chunk` characters when that is given."""
        stream = stream_text(text, chunk=chunk) if chunk else ()
        return cls(result=text_response(text, usage=usage), stream=stream, delay_s=delay_s)

    @classmethod
    def tool(
        cls,
        call_id: str,
        name: str,
        args: Mapping[str, Any] | str = "{}",
        *,
        delay_s: float = 0.0,
        usage: LlmUsage = NO_USAGE,
    ) -> Self:
        """Call one tool."""
        return cls(result=tool_call_response(call_id, name, args, usage=usage), delay_s=delay_s)


Answer = Call | LlmResponse | Exception
Step = Answer | Callable[[LlmRequest], Answer]
"""An entry of a script; a function makes it from the request it answers."""


class ScriptedProvider:
    """Answers the n-th call with the n-th step, and fails a call that the script has no step for.

    `requests` holds what was asked, in order, unless `record` is off. Concurrent calls take
    their steps in the order in which they arrive. Cancelled between two events, a call keeps
    its step: the script does not go back.
    """

    requires_streaming = False

    def __init__(
        self,
        script: Iterable[Step] = (),
        *,
        otherwise: Callable[[LlmRequest], Answer] | None = None,
        kind: str = "scripted",
        options: ProviderOptions | None = None,
        clock: Clock | None = None,
        record: bool = True,
    ) -> None:
        self.kind = kind
        self.requests: list[LlmRequest] = []
        self.calls = 0
        self.closed = False
        self._script = deque(script)
        self._otherwise = otherwise
        self._options = options or ProviderOptions()
        self._clock: Clock = clock or SystemClock()
        self._record = record

    @property
    def remaining(self) -> int:
        """Steps that no call has taken yet."""
        return len(self._script)

    def extend(self, script: Iterable[Step]) -> None:
        """Add steps at the end."""
        self._script.extend(script)

    def options(self) -> ProviderOptions:
        return self._options

    def set_options(self, options: ProviderOptions) -> None:
        self._options = options

    def serialize_config(self) -> Mapping[str, Any]:
        return {}

    async def complete(self, request: LlmRequest) -> LlmResponse:
        """Play the next step; after the last, raises a failure of code `script_exhausted`."""
        self.calls += 1
        if self._record:
            self.requests.append(request)
        call = self._next(request)
        if request.stream_events is not None:
            await self._send(call, request.stream_events)
        if call.delay_s and (request.stream_events is None or not call.stream):
            await self._clock.sleep(call.delay_s)
        if isinstance(call.result, Exception):
            raise call.result
        return call.result

    async def close(self) -> None:
        self.closed = True

    def _next(self, request: LlmRequest) -> Call:
        if self._script:
            step = self._script.popleft()
        elif self._otherwise is not None:
            step = self._otherwise
        else:
            raise ProviderFailure(
                f"the script of provider {self.kind!r} ended before call {self.calls}: "
                "add a step, or give `otherwise`",
                kind=ProviderFailureKind.VALIDATION,
                code="script_exhausted",
                retryable=False,
            )
        answer = step if isinstance(step, Call | LlmResponse | Exception) else step(request)
        return answer if isinstance(answer, Call) else Call(result=answer)

    async def _send(self, call: Call, emit: StreamCallback) -> None:
        if call.delay_s:
            for event in call.stream:
                await self._clock.sleep(call.delay_s)
                emit(event)
            return
        budget = YIELD_EVERY
        for event in call.stream:
            emit(event)
            budget -= 1
            if not budget:
                budget = YIELD_EVERY
                await checkpoint()
