"""One request and its answer, over the SDK: sent, read to its end, closed, failures translated.

The SDK carries HTTP, authentication and event framing. It is asked for plain JSON and not for
its own models, so that fields it does not know survive and a newer endpoint is no error.
"""

import itertools
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

from ...model.llm import LlmProviderTraceEvent, LlmRequest, LlmResponse, ProviderFailureKind
from ...ports.provider import ProviderFailure, ProviderReliability
from ..deadlines import DeadlineExceeded, Deadlines
from ._answer import Answer
from ._client import CLOSE_DEADLINE_S
from ._compat import StreamTermination
from ._failures import (
    connection_failure,
    embedded_failure,
    malformed_failure,
    status_failure,
    unsent_failure,
)

PATH: Final = "/chat/completions"

RESPONSE_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of one stream: far beyond any answer, and a bound on what a broken endpoint can fill."""

YIELD_EVERY: Final = 64
"""Events read before the loop gets a turn: a fast endpoint fills a buffer with hundreds of them,
and reading those waits for nothing."""

_START, _CHUNK, _TOTAL = "response start", "stream chunk", "request"


class Exchange:
    """A single attempt; `run` is called once."""

    def __init__(
        self,
        sdk: Any,
        client: Any,
        request: LlmRequest,
        answer: Answer,
        deadlines: Deadlines,
        *,
        kind: str,
        http_summary: str,
        termination: StreamTermination,
    ) -> None:
        self._sdk = sdk
        self._client = client
        self._request = request
        self._answer = answer
        self._deadlines = deadlines
        self._kind = kind
        self._http_summary = http_summary
        self._termination = termination

    async def run(
        self, body: dict[str, Any], headers: Mapping[str, str], reliability: ProviderReliability
    ) -> LlmResponse:
        """Send `body` and return the answer.

        Raises `ProviderFailure`, with what had arrived as `partial`. Cancellation closes the
        connection and passes through.
        """
        streaming = self._request.stream_events is not None
        work = partial(self._stream if streaming else self._fetch, body, headers, reliability)
        try:
            try:
                await self._deadlines.hold(work)
            except DeadlineExceeded as exceeded:
                raise _timed_out(exceeded.limit) from None
        except ProviderFailure as failure:
            # With its finish reason the answer is whole. What can still be missing behind it is
            # the token count, which is not worth asking, and paying, a second time.
            if not (self._answer.finish_reason and _broke_off(failure)):
                if self._answer.is_empty:
                    raise
                so_far = self._answer.so_far(http_summary=self._http_summary)
                raise failure.changed(partial=so_far) from None
        return self._answer.response(http_summary=self._http_summary)

    async def _fetch(
        self, body: dict[str, Any], headers: Mapping[str, str], reliability: ProviderReliability
    ) -> None:
        self._deadlines.set(_TOTAL, reliability.request_timeout_s())
        answer = await self._post(body, headers)
        self._take_body(answer)

    async def _stream(
        self, body: dict[str, Any], headers: Mapping[str, str], reliability: ProviderReliability
    ) -> None:
        chunk_s = reliability.chunk_timeout_s()
        self._deadlines.set(_START, min(reliability.request_timeout_s() or chunk_s, chunk_s))
        self._deadlines.set(_TOTAL, reliability.stream_timeout_s())
        stream = await self._post(
            body, headers, stream=True, stream_cls=self._sdk.AsyncStream[object]
        )
        try:
            response = stream.response
            self._answer.request_id = response.headers.get("x-request-id")
            self._deadlines.lift(_START)
            # Bytes count as well as events: a comment that keeps the connection open is a sign
            # of life. Beyond the limit they do not, or an endless line would live for ever.
            self._deadlines.set_silence(
                _CHUNK, chunk_s, lambda: min(response.num_bytes_downloaded, RESPONSE_LIMIT)
            )
            if "json" in response.headers.get("content-type", ""):
                await self._read_unstreamed(response)
            else:
                await self._read_events(stream)
        finally:
            with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True), suppress(Exception):
                await stream.close()

    async def _post(self, body: dict[str, Any], headers: Mapping[str, str], **how: Any) -> Any:
        sdk = self._sdk
        try:
            return await self._client.post(
                PATH, body=body, cast_to=object, options={"headers": dict(headers)}, **how
            )
        except sdk.APIStatusError as error:
            raise status_failure(error) from None
        except sdk.APIConnectionError as error:
            raise connection_failure(error, streaming=False) from None
        except sdk.OpenAIError as error:
            raise unsent_failure(error) from None
        except json.JSONDecodeError as error:
            raise malformed_failure(error.doc) from None

    async def _read_events(self, stream: Any) -> None:
        answer, alive, trace = self._answer, self._deadlines.alive, self._request.provider_trace
        for count in itertools.count(1):
            try:
                event = await anext(stream)
            except StopAsyncIteration:
                break
            except Exception as error:
                raise self._read_failure(error) from None
            alive()
            if trace is not None:
                self._trace(event)
            answer.add_chunk(event)
            if stream.response.num_bytes_downloaded > RESPONSE_LIMIT:
                raise ProviderFailure(
                    f"the stream exceeds {RESPONSE_LIMIT} bytes",
                    kind=ProviderFailureKind.STREAM,
                    code="stream_too_large",
                    retryable=False,
                )
            if count % YIELD_EVERY == 0:
                await checkpoint()
        if answer.finish_reason:
            return
        if self._termination is StreamTermination.REQUIRE_TERMINAL_EVIDENCE:
            raise ProviderFailure(
                "the stream ended without a finish reason",
                kind=ProviderFailureKind.STREAM,
                code="stream_ended_without_terminal_event",
                retryable=True,
            )
        if answer.is_empty:
            raise _empty()

    async def _read_unstreamed(self, response: Any) -> None:
        """The endpoint was asked to stream and answers in one piece."""
        try:
            await response.aread()
        except Exception as error:
            raise connection_failure(error, streaming=True) from None
        try:
            body = response.json()
        except ValueError:
            body = response.text
        self._take_body(body)

    def _take_body(self, body: Any) -> None:
        if not isinstance(body, Mapping):
            raise malformed_failure(body if isinstance(body, str) else None)
        if self._request.provider_trace is not None:
            self._trace(body)
        self._answer.add_body(body)
        if self._answer.is_empty and not self._answer.finish_reason:
            raise _empty()

    def _read_failure(self, error: Exception) -> ProviderFailure:
        if isinstance(error, json.JSONDecodeError):
            return malformed_failure(error.doc)
        if isinstance(error, UnicodeDecodeError):
            return malformed_failure(None)
        if isinstance(error, self._sdk.APIError) and error.body is not None:
            return embedded_failure(error.body)
        return connection_failure(error, streaming=True)

    def _trace(self, data: Any) -> None:
        trace = self._request.provider_trace
        if trace is None or not isinstance(data, Mapping):
            return
        name = data.get("type") or data.get("event")
        trace(
            LlmProviderTraceEvent(
                provider=self._kind,
                event_name=name if isinstance(name, str) else "provider_event",
                raw=json.dumps(data),
            )
        )


def _timed_out(limit: str) -> ProviderFailure:
    return ProviderFailure(
        f"OpenAI-compatible {limit} timed out",
        kind=ProviderFailureKind.TIMEOUT,
        code="timeout",
        retryable=True,
    )


def _empty() -> ProviderFailure:
    return ProviderFailure(
        "the endpoint answered with nothing",
        kind=ProviderFailureKind.STREAM,
        code="empty_response",
        retryable=True,
    )


def _broke_off(failure: ProviderFailure) -> bool:
    return failure.code in ("timeout", "stream_disconnected")
