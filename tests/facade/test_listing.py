"""Listing sessions as a host does, for somebody who picks one to go on with."""

import pytest

from facade.places import Place, a_core, running
from lash_runtime import (
    InvalidConfiguration,
    InvalidSessionId,
    LashCore,
    MissingSessionStoreFactory,
    SessionOrder,
    SessionPickerInfo,
    StoreFailure,
    tool,
)
from lash_runtime.testing import Call, ManualClock, ScriptedProvider

pytestmark = pytest.mark.anyio


def yes() -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: Call.text("yes"))


async def ids(core: LashCore, order: SessionOrder = SessionOrder.LAST_USED) -> list[str]:
    return [entry.session_id for entry in (await core.list_sessions(order=order)).sessions]


async def test_a_picker_finds_every_session_by_what_was_said(place: Place) -> None:
    """Tool rounds count as messages, and as nobody's words."""

    @tool
    async def look() -> str:
        """Look."""
        return "rain"

    clock = ManualClock()
    provider = ScriptedProvider(
        [Call.tool("c1", "look"), Call.text("Take a coat."), Call.text("Boots.")]
    )
    core = place.builder(provider, look).clock(clock).build()
    async with running(core):
        async with core.session("chat-42") as session:
            created = clock.timestamp_ms()
            clock.advance(1)
            await session.turn("What should I wear in Oslo?").run()
            clock.advance(1)
            await session.turn("And on my feet?").run()
        (entry,) = (await core.list_sessions()).sessions
        assert entry == SessionPickerInfo(
            session_id="chat-42",
            session_name="chat-42",
            created_at_epoch_ms=created,
            updated_at_epoch_ms=clock.timestamp_ms(),
            model="scripted-1",
            cwd=entry.cwd,
            relation=entry.relation,
            message_count=6,
            user_message_count=2,
            first_user_message="What should I wear in Oslo?",
            last_message="Boots.",
        )
        assert entry.parent_session_id is None


async def test_the_list_is_there_after_reopening(on_disk: Place) -> None:
    """It is stored with the sessions, not gathered from them."""
    async with a_core(on_disk, yes()) as core:
        for name in ("one", "two"):
            async with core.session(name) as session:
                await session.turn(f"I am {name}").run()
        before = await core.list_sessions()
    async with a_core(on_disk, yes()) as core:
        assert await core.list_sessions() == before
        assert {entry.first_user_message for entry in before.sessions} == {"I am one", "I am two"}


async def test_all_pages_together_are_all_sessions(place: Place) -> None:
    """The loop that a host writes."""
    async with a_core(place, yes()) as core:
        names = {f"s{number}" for number in range(12)}
        for name in names:
            async with core.session(name):
                pass
        found: list[str] = []
        page = await core.list_sessions(limit=5)
        found += [entry.session_id for entry in page.sessions]
        while page.next_cursor is not None:
            page = await core.list_sessions(limit=5, after=page.next_cursor)
            found += [entry.session_id for entry in page.sessions]
        assert len(found) == 12
        assert set(found) == names


async def test_what_was_used_last_comes_first(place: Place) -> None:
    """Opening a session to look at it is not use."""
    clock = ManualClock()
    core = place.builder(yes()).clock(clock).build()
    async with running(core):
        for name in ("one", "two", "three"):
            async with core.session(name):
                clock.advance(1)
        async with core.session("one") as session:
            await session.turn("hello").run()
        async with core.session("two"):
            pass
        assert await ids(core) == ["one", "three", "two"]
        assert await ids(core, SessionOrder.CREATED) == ["three", "two", "one"]


async def test_a_child_names_its_parent(place: Place) -> None:
    """So that a picker can leave it out, or show it below."""
    async with a_core(place, yes()) as core:
        async with core.session("parent"), core.session("child").parent("parent"):
            pass
        page = await core.list_sessions()
        parents = {entry.session_id: entry.parent_session_id for entry in page.sessions}
        assert parents == {"parent": None, "child": "parent"}


async def test_starting_over_clears_the_entry(place: Place) -> None:
    """The list never quotes what its session no longer has."""
    async with a_core(place, yes()) as core:
        async with core.session("s") as session:
            await session.turn("a secret").run()
        async with await core.session("s").open_fresh() as session:
            await session.turn("hello").run()
        (entry,) = (await core.list_sessions()).sessions
        assert (entry.first_user_message, entry.message_count) == ("hello", 2)


async def test_asking_for_a_session_creates_none(place: Place) -> None:
    """Opening would; so a host that must not has something else to ask."""
    async with a_core(place, yes()) as core:
        assert not await core.session_exists("s")
        assert await ids(core) == []
        async with core.session("s"):
            assert await core.session_exists("s")
        await core.delete_session("s")
        assert not await core.session_exists("s")
        with pytest.raises(InvalidSessionId):
            await core.session_exists(" ")


async def test_bad_questions_are_refused_with_the_reason(place: Place) -> None:
    """A cursor that is not one leads nowhere, least of all back to the beginning."""
    async with a_core(place, yes()) as core:
        for limit in (0, -1, 1_001):
            with pytest.raises(InvalidConfiguration):
                await core.list_sessions(limit=limit)
        with pytest.raises(InvalidConfiguration):
            await core.list_sessions(order="by name")  # type: ignore[arg-type]
        with pytest.raises(StoreFailure) as caught:
            await core.list_sessions(after="nonsense")
        assert caught.value.code == "invalid_page_cursor"
        assert caught.value.is_terminal


async def test_a_core_without_stored_sessions_says_so() -> None:
    """An empty list would say that there are none."""
    core = Place("nothing", None).builder(yes()).build()  # type: ignore[arg-type]
    async with running(core):
        with pytest.raises(MissingSessionStoreFactory):
            await core.list_sessions()
