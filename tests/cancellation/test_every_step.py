"""A turn that is cancelled at any step of the event loop leaves nothing behind but its history."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from cancellation.stepping import AtStep, SteppingLoop
from conformance.small_calls import SmallCallStorage
from lash_runtime import (
    LashCore,
    LashSession,
    LeaseOwnerIdentity,
    MessageRole,
    PartKind,
    tool,
)
from lash_runtime.kernel.resume_safety import resume_safe
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.ports.leases import LeaseAcquired
from lash_runtime.ports.storage import SessionStoreCreateRequest, Storage
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import (
    Call,
    ScriptedProvider,
    stream_text,
    text_response,
    tool_calls_response,
)

pytestmark = pytest.mark.anyio

SECOND = LeaseOwnerIdentity(owner_id="somebody else", incarnation_id="1")

MOST_STEPS = 2_000
"""More than any turn of this file takes; reaching it means that a turn never ended."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": SteppingLoop}


@tool
async def slow(name: str) -> str:
    """Give the loop a few turns, like a tool that waits for something."""
    for _ in range(3):
        await asyncio.sleep(0)
    return name


@tool
def threaded(name: str) -> str:
    """Run in a thread."""
    return name


def _answer(request: LlmRequest) -> Call | LlmResponse:
    last = request.messages[-1]
    if any(block.type == "tool_result" for block in last.blocks):
        return Call(result=text_response("done"), stream=stream_text("done", chunk=1))
    asked = last.blocks[0].text if last.blocks[0].type == "text" else ""
    if asked != "work":
        return text_response(f"re: {asked}")
    return tool_calls_response(
        (f"a{len(request.messages)}", "slow", {"name": "x"}),
        (f"b{len(request.messages)}", "threaded", {"name": "y"}),
    )


@pytest.fixture(params=["memory", "small calls", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "sqlite":
        return SqliteStorage(tmp_path / "a.db")
    if request.param == "memory":
        return MemoryStorage()
    return SmallCallStorage(MemoryStorage())  # type: ignore[return-value]


@pytest.fixture
async def core(storage: Storage) -> AsyncIterator[LashCore]:
    built = (
        LashCore.standard_builder()
        .provider(ScriptedProvider(otherwise=_answer, record=False))
        .model("m")
        .storage(storage)
        .tools(slow, threaded)
        .build()
    )
    async with built as entered:
        yield entered


@asynccontextmanager
async def _no_task_left() -> AsyncIterator[None]:
    """Whatever runs for one turn is gone when it is over; the lease keeper serves all turns."""
    before = asyncio.all_tasks()
    yield
    left = {task.get_name() for task in asyncio.all_tasks() - before if not task.done()}
    assert left <= {"lash-lease-keeper"}


async def _cancelled_at(session: LashSession, step: int, times: int) -> bool:
    """Run a turn in a task and cancel it `times` times from `step` on; whether it got so far."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    running = loop.create_task(session.turn("work").run())

    def cancel() -> None:
        for _ in range(times):
            running.cancel()

    with AtStep(loop, step, cancel) as cancelling:
        await asyncio.wait((running,))
    if not running.cancelled():
        assert running.result().is_success or cancelling.reached
    return cancelling.reached


async def _assert_free(storage: Storage, session_id: str) -> None:
    """Nobody holds the lane any more: a second owner gets it at once, before the first one has
    used the session again and so given back what it may have kept."""
    stores = storage.session_stores
    store = await stores.create_store(SessionStoreCreateRequest(session_id=session_id))
    claimed = await store.try_claim_session_execution_lease(session_id, SECOND, 30_000)
    assert isinstance(claimed, LeaseAcquired), session_id
    await store.release_session_execution_lease(claimed.lease.fence())


async def _assert_unharmed(core: LashCore, session: LashSession) -> None:
    """The session goes on, here and for whoever opens it next, and its history is closed."""
    output = await session.turn("still there?").run()
    assert output.assistant_message == "re: still there?"
    messages = session.read_view().messages
    assert resume_safe(messages)
    asked = [m.text for m in messages if m.role is MessageRole.USER and m.text]
    assert asked in (["still there?"], ["work", "still there?"])
    called = [
        part.tool_call_id for m in messages for part in m.parts if part.kind is PartKind.TOOL_CALL
    ]
    assert len(called) in (0, 2)
    async with core.session(session.session_id) as other:
        assert (await other.turn("and you?").run()).assistant_message == "re: and you?"


@pytest.mark.parametrize("times", [1, 2])
async def test_a_caller_cancelled_at_any_step_leaves_a_usable_session(
    core: LashCore, storage: Storage, times: int
) -> None:
    """No step of a turn is one at which being cancelled harms what is stored."""
    for step in range(MOST_STEPS):
        async with core.session(f"cancelled-{step}") as session:
            async with _no_task_left():
                reached = await _cancelled_at(session, step, times)
            await _assert_free(storage, session.session_id)
            await _assert_unharmed(core, session)
        if not reached:
            assert step > 10
            return
    pytest.fail("the turn never ended by itself")


async def test_a_scope_cancelled_at_any_step_leaves_a_usable_session(
    core: LashCore, storage: Storage
) -> None:
    """Structured cancellation is delivered again and again, and still tears nothing."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    for step in range(MOST_STEPS):
        async with core.session(f"scoped-{step}") as session:
            async with _no_task_left():
                with anyio.CancelScope() as scope, AtStep(loop, step, scope.cancel) as cancelling:
                    await session.turn("work").run()
            await _assert_free(storage, session.session_id)
            await _assert_unharmed(core, session)
        if not cancelling.reached:
            return
    pytest.fail("the turn never ended by itself")


async def test_a_core_closed_at_any_step_of_a_turn_can_be_opened_again(tmp_path: Path) -> None:
    """Closing interrupts: the turn is closed as interrupted when its session is used next."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    database = tmp_path / "closed.db"
    for step in range(MOST_STEPS):
        provider = ScriptedProvider(otherwise=_answer, record=False)
        core = LashCore.open(database, provider=provider, model="m", tools=[slow, threaded])
        async with core:
            session = await core.session(f"closed-{step}").open()
            running = loop.create_task(session.turn("work").run())
            over = asyncio.Event()
            with AtStep(loop, step, over.set) as closing:
                running.add_done_callback(lambda _, over=over: over.set())
                await over.wait()
        await asyncio.wait((running,))
        running.exception()
        again = LashCore.open(database, provider=provider, model="m", tools=[slow, threaded])
        # Another core is another owner, so its first turn finds the lane free or fails.
        async with again, again.session(f"closed-{step}") as session:
            await _assert_unharmed(again, session)
        if not closing.reached:
            return
    pytest.fail("the turn never ended by itself")
