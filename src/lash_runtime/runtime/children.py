"""Tasks that live inside one call: started by it, and over before it returns.

A task group keeps the same promise. It is not used here because it reports what goes wrong as an
exception group, which must not leave the library, and because each of its tasks costs several
times what a plain one does: a turn starts one for every model call and every tool call.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from typing import Any, Generic, TypeVar

import anyio

from .verdict import Err, Ok, capture

T = TypeVar("T")


class Child(Generic[T]):
    """One piece of work in a task of its own. Whoever starts it leaves by `ended` or `stopped`."""

    __slots__ = ("_scope", "_then", "_unstarted", "task", "verdict")

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        *,
        name: str,
        then: Callable[[], None] | None = None,
        insistent: bool = True,
    ) -> None:
        """`then` is called as the last thing in the task, however the work ended.

        Stopping cancels the work again whenever it goes on waiting in spite of that. Work that is
        known not to can do without (`insistent=False`), which halves the cost of its task.
        """
        self.verdict: Ok[T] | Err | None = None
        """How the work ended; `None` while it runs, and for work that was cancelled."""
        self._then = then
        self._scope = anyio.CancelScope() if insistent else None
        self._unstarted: Coroutine[Any, Any, T] | None = work
        self.task = asyncio.get_running_loop().create_task(self._run(work), name=name)

    @property
    def is_over(self) -> bool:
        return self.task.done()

    def stop(self) -> None:
        """Cancel the work."""
        if self._scope is not None:
            self._scope.cancel()
            return
        self.task.cancel()
        if self._unstarted is not None:
            self._unstarted.close()  # its task ends without a look at it

    async def _run(self, work: Coroutine[Any, Any, T]) -> None:
        self._unstarted = None
        try:
            with self._scope or nullcontext():
                self.verdict = await capture(work)
        finally:
            # In the task and not as its callback: whoever waits goes on one loop turn earlier.
            if self._then is not None:
                self._then()


async def ended(*children: Child[Any]) -> None:
    """Wait until all of `children` are over. A cancellation stops them first and goes on its way
    when they are, also one that comes while they are being waited for."""
    await _ended(children, shield=False)


async def stopped(*children: Child[Any]) -> None:
    """Stop those that are not over, and wait for them as `ended` does."""
    for child in children:
        if not child.is_over:
            child.stop()
    await ended(*children)


async def _ended(children: Sequence[Child[Any]], *, shield: bool) -> None:
    running = [child.task for child in children if not child.is_over]
    if not running:
        return
    try:
        with anyio.CancelScope(shield=shield):
            await asyncio.wait(running)
    except asyncio.CancelledError:
        for child in children:
            child.stop()
        await _ended(children, shield=True)
        raise
