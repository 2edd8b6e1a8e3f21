"""A token as those who wait for it see it: it fires once, from any thread, for all of them."""

import asyncio

import anyio
import pytest
from anyio import to_thread

from lash_runtime import CancelToken

pytestmark = pytest.mark.anyio


async def test_a_thread_that_fires_wakes_every_task_that_waits() -> None:
    """The stop button often lives in another thread than the loop."""
    token, woken = CancelToken(), []

    async def wait(name: str) -> None:
        await token.wait()
        woken.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(wait, "a")
        group.start_soon(wait, "b")
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        await to_thread.run_sync(token.cancel)

    assert sorted(woken) == ["a", "b"]


async def test_a_future_is_resolved_by_a_token_that_fires() -> None:
    """Whoever waits for the token and for something else can wait for one future."""
    token, future = CancelToken(), asyncio.get_running_loop().create_future()
    token.resolve_on_cancel(future)

    await to_thread.run_sync(token.cancel)
    await future

    late = asyncio.get_running_loop().create_future()
    token.resolve_on_cancel(late)
    await late


async def test_a_future_that_is_done_or_withdrawn_is_left_alone() -> None:
    """The other thing came first, and its result must not be lost."""
    token, loop = CancelToken(), asyncio.get_running_loop()
    done, withdrawn = loop.create_future(), loop.create_future()
    token.resolve_on_cancel(done)
    token.resolve_on_cancel(withdrawn)()
    done.set_exception(LookupError("first"))

    token.cancel()
    await token.wait()
    await anyio.wait_all_tasks_blocked()

    assert isinstance(done.exception(), LookupError)
    assert not withdrawn.done()


async def test_a_child_fires_with_its_parent_and_can_fire_alone() -> None:
    """A time limit of one call must not stop the turn."""
    parent = CancelToken()
    alone, both = parent.child(), parent.child()

    alone.cancel("tool_timeout")
    assert not parent.is_cancelled
    parent.cancel("enough")

    assert (alone.reason, both.reason) == ("tool_timeout", "enough")
