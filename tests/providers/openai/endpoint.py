"""A loopback HTTP/1.1 endpoint that answers by script and keeps what it was sent.

Each request takes the next script: a list of byte pieces to write, with gates to stop at. Every
piece of a body is an HTTP chunk of its own, so it arrives as the test has cut it.
"""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.lowlevel import checkpoint

Step = bytes | anyio.Event
Script = list[Step]

END = b"0\r\n\r\n"


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Endpoint:
    """`received` holds the requests in order; `left` is set when a client hung up on a script."""

    port: int
    scripts: list[Script]
    received: list[Received] = field(default_factory=list)
    arrived: anyio.Event = field(default_factory=anyio.Event)
    left: anyio.Event = field(default_factory=anyio.Event)
    steps_done: int = 0

    async def sent(self, steps: int) -> None:
        """Return once that many steps have been taken and a reader had its turns to see them."""
        while self.steps_done < steps:
            await checkpoint()
        for _ in range(20):  # each turn of the loop looks at the sockets
            await checkpoint()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def body(self) -> Any:
        return self.received[-1].body

    async def serve(self, stream: SocketStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
            async with stream:
                self.received.append(await _read_request(stream))
                self.arrived.set()
                script = self.scripts.pop(0)
                for step in script:
                    if isinstance(step, anyio.Event):
                        await self._wait(step, stream)
                    else:
                        await stream.send(step)
                    self.steps_done += 1

    async def _wait(self, gate: anyio.Event, stream: SocketStream) -> None:
        async def notice_hang_up() -> None:
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
                await stream.receive()
            self.left.set()

        async with anyio.create_task_group() as group:
            group.start_soon(notice_hang_up)
            await gate.wait()
            group.cancel_scope.cancel()


@asynccontextmanager
async def endpoint(*scripts: Script, port: int = 0) -> AsyncIterator[Endpoint]:
    listener = await anyio.create_tcp_listener(
        local_host="127.0.0.1", local_port=port, reuse_port=bool(port)
    )
    server = Endpoint(listener.extra(SocketAttribute.local_port), list(scripts))
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, server.serve)
        yield server
        group.cancel_scope.cancel()


def head(
    status: str = "200 OK",
    content_type: str = "text/event-stream",
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"content-type: {content_type}",
        "transfer-encoding: chunked",
        "connection: close",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def piece(data: bytes | str) -> bytes:
    """One HTTP chunk."""
    raw = data.encode() if isinstance(data, str) else data
    return f"{len(raw):x}\r\n".encode() + raw + b"\r\n"


def event(data: Any) -> bytes:
    """One server-sent event as one HTTP chunk."""
    text = data if isinstance(data, str) else json.dumps(data)
    return piece(f"data: {text}\n\n")


def delta(**fields: Any) -> dict[str, Any]:
    """A chunk whose only choice carries `fields`."""
    return {"choices": [{"index": 0, "delta": fields}]}


def finish(reason: str = "stop", **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **fields}


def streamed(*chunks: Any) -> Script:
    """A whole stream: `chunks`, the end mark, the end."""
    return [head(), *(event(chunk) for chunk in chunks), event("[DONE]"), END]


def answered(body: Any, status: str = "200 OK", headers: Iterable[tuple[str, str]] = ()) -> Script:
    """An answer in one piece."""
    text = body if isinstance(body, str) else json.dumps(body)
    return [head(status, "application/json", headers), piece(text), END]


async def _read_request(stream: SocketStream) -> Received:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive()
    raw_head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = raw_head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {}
    for line in rest:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        body += await stream.receive()
    return Received(method, path, headers, json.loads(body) if body else None)
