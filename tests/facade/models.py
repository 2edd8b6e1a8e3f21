"""Models that a test stops in the middle of an answer."""

from typing import Any

import anyio

from lash_runtime.model.llm import LlmRequest, LlmResponse, TextDelta
from lash_runtime.testing import TestProvider, text_response


class StallingProvider(TestProvider):
    """Streams `text`, sets `entered`, and says no more until `release` is set or it is cut off.

    `calls` counts the requests, `cut_off` those that were cancelled while they waited.
    """

    def __init__(self, text: str = "Take a c", *, kind: str = "scripted") -> None:
        super().__init__(self._answer, kind=kind)
        self.entered = anyio.Event()
        self.release = anyio.Event()
        self.calls = 0
        self.cut_off = 0
        self._text = text

    async def _answer(self, request: LlmRequest) -> LlmResponse:
        self.calls += 1
        if request.stream_events is not None:
            request.stream_events(TextDelta(self._text))
        self.entered.set()
        finished = False
        try:
            await self.release.wait()
            finished = True
        finally:
            self.cut_off += not finished
        return text_response(self._text)


class DictatedProvider(TestProvider):
    """Streams each text that a test says, and answers with all of them once the test is `done`.

    `calls` counts the requests.
    """

    def __init__(self, *, kind: str = "scripted") -> None:
        super().__init__(self._answer, kind=kind)
        self.entered = anyio.Event()
        self.calls = 0
        self._said: list[str] = []
        self._stream: Any = None
        self._done = anyio.Event()

    def say(self, *texts: str) -> None:
        for text in texts:
            self._said.append(text)
            self._stream(TextDelta(text))

    def done(self) -> None:
        self._done.set()

    async def _answer(self, request: LlmRequest) -> LlmResponse:
        self.calls += 1
        self._stream = request.stream_events
        self.entered.set()
        await self._done.wait()
        return text_response("".join(self._said))


def asked(request: LlmRequest) -> list[str]:
    """What a request says, as short lines: the role and each text, call and result of it."""
    said = []
    for message in request.messages:
        for block in message.blocks:
            said.append(f"{message.role.value}: {_content(block)}")
    return said


def _content(block: Any) -> str:
    match block.type:
        case "text" | "reasoning":
            return str(block.text)
        case "tool_call":
            return f"[{block.call_id}] {block.tool_name} {block.input_json}"
        case "tool_result":
            return f"[{block.call_id}] {block.content}"
        case _:
            return f"<{block.type}>"
