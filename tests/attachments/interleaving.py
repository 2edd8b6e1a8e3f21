"""Runs several actors one call at a time, in an order that a test has chosen."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio


class Gate:
    """Where one actor stands before each of its calls until it is let through."""

    def __init__(self) -> None:
        self._at_gate = anyio.Event()
        self._through = anyio.Event()
        self.finished = False

    async def stand(self) -> None:
        self._at_gate.set()
        await self._through.wait()
        self._through = anyio.Event()

    async def let_through(self) -> None:
        """Let the actor make the call it stands before; return when it stands again."""
        self._at_gate = anyio.Event()
        self._through.set()
        await self._at_gate.wait()

    async def arrived(self) -> None:
        await self._at_gate.wait()

    async def run(self, actor: Callable[[], Awaitable[object]]) -> None:
        await actor()
        self.finished = True
        self._at_gate.set()


def gated(target: object, gate: Gate, *names: str) -> Any:
    """An object with those methods of `target`, each of which stands at the gate first."""

    def method(name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: object) -> Any:
            await gate.stand()
            return await getattr(target, name)(*args)

        return call

    return type("Gated", (), {name: staticmethod(method(name)) for name in names})()


async def die_after(calls: int, gate: Gate, actor: Callable[[], Awaitable[object]]) -> bool:
    """Let the actor make that many calls and then end it; whether it was still at work."""
    async with anyio.create_task_group() as running:
        running.start_soon(gate.run, actor)
        await gate.arrived()
        for _ in range(calls):
            if not gate.finished:
                await gate.let_through()
        running.cancel_scope.cancel()
    return not gate.finished


async def interleave(
    actors: Sequence[tuple[Gate, Callable[[], Awaitable[object]]]], order: Sequence[int]
) -> None:
    """Run the actors to their ends; `order` says whose call is next, until it is used up."""
    async with anyio.create_task_group() as running:
        for gate, actor in actors:
            running.start_soon(gate.run, actor)
            await gate.arrived()
        for at in (*order, *(at for at in range(len(actors)) for _ in range(100))):
            gate = actors[at][0]
            if not gate.finished:
                await gate.let_through()
