"""The owner of tasks that outlive the call that started them, and of nothing else.

A turn runs in a task of the core, so that a caller's cancellation reaches the caller alone and
cannot tear an acceptance or a commit. The owner knows every task it has started and waits for
each of them before it is closed.
"""

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, Final, Generic, TypeVar

import anyio

from ..ports.cancel import resolve
from .faults import RuntimeFault

log = logging.getLogger(__name__)

T = TypeVar("T")

CLOSE_DEADLINE_S: Final = 10.0
"""How long `aclose` lets interrupted tasks finish what is shielded before it cuts them off."""

CUT_OFF_DEADLINE_S: Final = 5.0
"""How long a task that was cut off may take to end."""


class OwnedTask(Generic[T]):
    """A running piece of work that can be interrupted.

    Interrupting respects shields: a commit that has begun runs to its end first.
    """

    __slots__ = ("_scope", "task")

    def __init__(self, work: Coroutine[Any, Any, T], *, name: str) -> None:
        self._scope = anyio.CancelScope()
        # The one place that makes a task for longer than a call: its `TaskOwner` holds it until it
        # is done, and waits for it before closing.
        self.task: asyncio.Task[T] = asyncio.get_running_loop().create_task(
            self._run(work), name=name, context=contextvars.copy_context()
        )

    def interrupt(self) -> None:
        """Stop the work; whoever awaits it gets the fault `turn_interrupted`."""
        self._scope.cancel()

    @property
    def interrupted(self) -> bool:
        """Whether the work was stopped before its end. Only for work that is over."""
        return self._scope.cancelled_caught or self.task.cancelled()

    def result(self) -> T:
        """What the work returned, or what it raised; the fault `turn_interrupted` if it was
        stopped. Only for work that is over."""
        if self.task.cancelled():
            raise _interrupted()
        return self.task.result()

    async def settled(self) -> None:
        """Wait until the work is over, however it ends. Cancelling the wait stops nothing."""
        if self.task.done():
            return
        over = self.task.get_loop().create_future()

        def wake(_: object) -> None:
            resolve(over)

        self.task.add_done_callback(wake)
        try:
            await over
        finally:
            self.task.remove_done_callback(wake)

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._scope:
            return await work
        raise _interrupted()


class TaskOwner:
    """Starts tasks and answers for them."""

    def __init__(self) -> None:
        self._owned: set[OwnedTask[Any]] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def start(self, work: Coroutine[Any, Any, T], *, name: str) -> OwnedTask[T]:
        """Run `work` with a copy of the caller's context variables.

        Raises `RuntimeFault("core_closed")` once the owner is closed; `work` is not started.
        """
        if self._closed:
            work.close()
            raise RuntimeFault("core_closed", "this core is closed: build and enter a new one")
        owned = OwnedTask(work, name=name)
        self._owned.add(owned)
        owned.task.add_done_callback(lambda task: self._forget(owned))
        return owned

    async def complete(self, work: Coroutine[Any, Any, T], *, name: str) -> T:
        """Run `work` and wait for it. Being cancelled here ends the wait, not the work, which
        takes hold of something that only it can give back."""
        owned = self.start(work, name=name)
        await owned.settled()
        return owned.result()

    async def aclose(self) -> None:
        """Interrupt what still runs and wait for it, then cut off what is left. Idempotent.

        Bounded: a task that ends in neither way is reported and left. One that waits for this
        very call, as a tool that closes its own core does, can end only once it has returned.
        """
        self._closed = True
        for owned in self._owned:
            owned.interrupt()
        if self._owned:
            await asyncio.wait([o.task for o in self._owned], timeout=CLOSE_DEADLINE_S)
        for owned in self._owned:
            owned.task.cancel()
        if self._owned:
            await asyncio.wait([o.task for o in self._owned], timeout=CUT_OFF_DEADLINE_S)
        for owned in self._owned:
            log.error("%s did not end when its core was closed", owned.task.get_name())

    def _forget(self, owned: OwnedTask[Any]) -> None:
        self._owned.discard(owned)
        if not owned.task.cancelled():
            # Whoever awaits the task raises its error, and its turn's row has it too. Reading
            # it here keeps asyncio from reporting it a third time.
            owned.task.exception()


def _interrupted() -> RuntimeFault:
    return RuntimeFault(
        "turn_interrupted",
        "the core was closed while the turn ran: it is closed as interrupted when the session "
        "is used again",
    )
