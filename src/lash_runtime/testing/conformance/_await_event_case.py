"""What every case of durable waits is given, and waiters whose end can be asked for."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from ...ports.await_events import (
    AwaitEventKey,
    AwaitEventResolver,
    AwaitEventWaitIdentity,
    CustomWait,
    ProcessSignalWait,
    Resolution,
    ResolvedErr,
    ResolvedOk,
    ToolCompletionWait,
)
from ...ports.cancel import CancelToken
from ...ports.clock import Clock
from ...ports.effect_errors import EffectControllerError
from ...ports.execution_scope import (
    ExecutionScope,
    ProcessScope,
    QueueDrainScope,
    RuntimeOperationScope,
    SessionDeleteScope,
    TurnScope,
)
from ..clocks import ManualClock

TURN: Final = TurnScope(session_id="s", turn_id="t")
OPERATION: Final = RuntimeOperationScope(operation_id="o")
OF_THE_SESSION: Final[tuple[ExecutionScope, ...]] = (
    TURN,
    QueueDrainScope(session_id="s", drain_id="d"),
    SessionDeleteScope(session_id="s"),
)
OF_OTHERS: Final[tuple[ExecutionScope, ...]] = (
    TurnScope(session_id="other", turn_id="t"),
    ProcessScope(process_id="s"),
    OPERATION,
)
TOOL: Final = ToolCompletionWait(tool_call_id="call-1")
WAITS: Final[tuple[AwaitEventWaitIdentity, ...]] = (
    TOOL,
    CustomWait(key="call-1"),
    ProcessSignalWait(process_id="p", signal_name="go", ordinal=1),
    ProcessSignalWait(process_id="p", signal_name="go", ordinal=2),
)
YES: Final = ResolvedOk(payload={"paid": True, "cents": [1, 2.5, None, "\N{EURO SIGN}"]})
NO: Final = ResolvedErr(code="declined", message="The card was declined.", raw={"try": "again"})

UNKNOWN: Final = "await_event_unknown_or_revoked"

TURNS: Final = 10
"""Of the event loop, in which a waiter that was woken would be over."""

ENDS_WITHIN_S: Final = 5.0
"""Of real time. A waiter that takes longer does not know that it is over."""


class Waiter:
    """Somebody who waits in a task of its own."""

    def __init__(self, cancel: CancelToken | None) -> None:
        self.cancel = cancel or CancelToken()
        self._scope = anyio.CancelScope()
        self._over = anyio.Event()
        self._answer: Resolution | Exception | None = None

    async def run(self, wait: Awaitable[Resolution]) -> None:
        try:
            with self._scope:
                self._answer = await wait
        except Exception as error:
            self._answer = error
        finally:
            self._over.set()

    @property
    def waits(self) -> bool:
        return not self._over.is_set()

    async def answer(self) -> Resolution:
        """What the wait returned. Raises what it raised, and fails if it goes on."""
        await self._ended()
        if isinstance(self._answer, Exception):
            raise self._answer
        assert self._answer is not None, "the waiter was interrupted"
        return self._answer

    async def error(self) -> Exception:
        """What the wait ended with, instead of an answer."""
        await self._ended()
        assert isinstance(self._answer, Exception), f"it answered {self._answer}"
        return self._answer

    async def error_code(self) -> str:
        """The code of what the wait was refused with."""
        error = await self.error()
        assert isinstance(error, EffectControllerError), f"it failed: {error}"
        return error.code

    async def interrupt(self) -> None:
        """Cancel the task, and wait until it is over."""
        self._scope.cancel()
        await self._ended()
        assert self._answer is None, "it was over before"

    async def _ended(self) -> None:
        with anyio.move_on_after(ENDS_WITHIN_S):
            await self._over.wait()
        assert not self.waits, "the waiter does not know that it is over"


class Waiters:
    """Starts waiters; those that are left at the end are interrupted."""

    def __init__(self, tasks: TaskGroup, resolver: AwaitEventResolver) -> None:
        self._tasks = tasks
        self._resolver = resolver

    async def start(
        self,
        key: AwaitEventKey,
        *,
        cancel: CancelToken | None = None,
        deadline_ms: int | None = None,
    ) -> Waiter:
        """Wait for `key`; returns when the wait has begun, or is over already."""
        waiter = Waiter(cancel)
        wait = self._resolver.await_await_event(key, waiter.cancel, deadline_ms)
        self._tasks.start_soon(waiter.run, wait)
        await self.settle()
        return waiter

    async def settle(self) -> None:
        """Return when what was asked of the resolver before has been done."""
        for number in range(2):
            probe = CustomWait(key=f"probe {number}")
            key = await self._resolver.await_event_key(OPERATION, probe)
            await self._resolver.resolve_await_event(key, YES)
            with anyio.move_on_after(ENDS_WITHIN_S):
                await self._resolver.await_await_event(key, CancelToken(), None)
        for _ in range(TURNS):
            await checkpoint()


@asynccontextmanager
async def waiters_on(resolver: AwaitEventResolver) -> AsyncIterator[Waiters]:
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield Waiters(tasks, resolver)
        except (Exception, pytest.fail.Exception) as error:
            failure = error  # raised below, where the group does not wrap it
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


class AwaitEventCase:
    """Base of the suites. A subclass provides the fixture `await_events`: a resolver without any
    waits, whose time is that of `clock`."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def waiters(self, await_events: AwaitEventResolver) -> AsyncIterator[Waiters]:
        async with waiters_on(await_events) as waiters:
            yield waiters


async def a_key(
    resolver: AwaitEventResolver,
    scope: ExecutionScope = TURN,
    wait: AwaitEventWaitIdentity = TOOL,
) -> AwaitEventKey:
    return await resolver.await_event_key(scope, wait)


async def answer_now(
    resolver: AwaitEventResolver, key: AwaitEventKey, clock: Clock
) -> Resolution | str:
    """What somebody is told who cannot wait: the answer, or the code of the refusal. Changes a
    wait that has no answer."""
    try:
        with anyio.fail_after(ENDS_WITHIN_S):
            return await resolver.await_await_event(key, CancelToken(), clock.timestamp_ms())
    except EffectControllerError as error:
        return error.code
    except TimeoutError:
        pytest.fail("it goes on waiting after its deadline")
