"""A token as those who wait for it see it: it fires once, from any thread, for all of them."""

import asyncio
import gc

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


async def test_a_child_that_was_never_asked_has_its_parents_reason_all_the_same() -> None:
    """Nobody waits for most of them; whoever looks later must not see another story."""
    parent = CancelToken()
    child = parent.child()
    grandchild = child.child()
    parent.cancel("enough")
    child.cancel("too late")

    assert child.is_cancelled
    assert grandchild.is_cancelled
    assert (child.reason, grandchild.reason) == ("enough", "enough")


@pytest.mark.parametrize("first", ["parent", "child"])
async def test_a_callback_of_a_child_is_called_once_whoever_fires_first(first: str) -> None:
    """Both may fire, in either order, and both lead to the same callback."""
    parent = CancelToken()
    child = parent.child()
    tokens = {"parent": parent, "child": child}
    calls: list[str] = []
    child.on_cancel(lambda: calls.append("early"))
    child.child().on_cancel(lambda: calls.append("deep"))
    child.on_cancel(lambda: calls.append("withdrawn"))()

    tokens.pop(first).cancel()
    tokens.popitem()[1].cancel()
    child.on_cancel(lambda: calls.append("late"))

    assert calls == ["early", "deep", "late"]


async def test_a_callback_stays_when_another_of_the_same_child_is_withdrawn() -> None:
    """A child follows its parent for as long as anybody waits for it, and again later."""
    parent = CancelToken()
    child = parent.child()
    calls: list[str] = []
    withdraw = child.on_cancel(lambda: calls.append("first"))
    other = child.on_cancel(lambda: calls.append("second"))
    withdraw()
    withdraw()
    parent.child().on_cancel(lambda: calls.append("sibling"))
    other()
    child.on_cancel(lambda: calls.append("again"))

    parent.cancel()

    assert calls == ["sibling", "again"]


async def test_a_token_that_serves_for_long_keeps_none_of_the_children_it_had() -> None:
    """A host may use one token for all of its turns, and each call of a tool takes a child."""
    token = CancelToken()
    before = _alive()
    for _ in range(50):
        token.child().child().on_cancel(_nothing)()
        token.child()

    assert _alive() <= before


def _alive() -> int:
    """How many tokens there are, those included that only the collector could free."""
    return sum(isinstance(item, CancelToken) for item in gc.get_objects())


def _nothing() -> None:
    pass
