"""Deleting sessions as a host does: what is gone, and what everybody finds who was using them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from facade.models import StallingProvider
from facade.places import Place, a_core, running
from facade.transcripts import lines
from facade.watched import Gate, WatchedStores
from lash_runtime import (
    CoreClosed,
    EmbedError,
    InvalidSessionId,
    LashCore,
    LashSession,
    LeaseTimings,
    MissingSessionStoreFactory,
    RuntimeFailure,
    SessionClosed,
    SessionDeleted,
    SessionDeleteReport,
    StoreFailure,
    TurnInput,
    tool,
)
from lash_runtime.model.images import Image
from lash_runtime.observe import SessionGap
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import StoreContended
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def yes() -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: Call.text("yes"))


async def talk(core: LashCore, session_id: str = "s", *words: str) -> None:
    async with core.session(session_id) as session:
        for said in words or ("hello",):
            await session.turn(said).run()


@asynccontextmanager
async def a_turn_that_stalls(
    session: LashSession, provider: StallingProvider
) -> AsyncIterator[list[EmbedError]]:
    """A turn in its model call. When the block ends, it ends, and what it raised is listed."""
    raised: list[EmbedError] = []

    async def run() -> None:
        with pytest.raises(EmbedError) as caught:
            await session.turn("Pack").provider(provider).run()
        raised.append(caught.value)

    async with anyio.create_task_group() as callers:
        callers.start_soon(run)
        await provider.entered.wait()
        yield raised


async def test_a_deleted_session_starts_from_nothing(place: Place) -> None:
    """The id is free for another conversation, which knows nothing of the first."""
    provider = yes()
    async with a_core(place, provider) as core:
        await talk(core, "s", "a secret", "another")
        report = await core.delete_session("s")
        assert report == SessionDeleteReport(
            session_id="s", existed=True, removed_node_count=4, removed_turn_count=2
        )
        async with core.session("s") as session:
            assert lines(session) == []
            assert session.usage_report().usage.total_tokens == 0
            await session.turn("who am I?").run()
            assert lines(session) == ["user: who am I?", "assistant: yes"]
        assert "secret" not in str(provider.requests[-1])


async def test_the_same_turn_id_is_a_new_turn_afterwards(place: Place) -> None:
    """Nothing is answered from the session that is gone, and nothing conflicts with it."""
    async with a_core(place, ScriptedProvider([Call.text("one"), Call.text("two")])) as core:
        answers = []
        for words in ("first", "second"):
            async with core.session("s") as session:
                output = await session.turn(words).turn_id("t").run()
                answers.append(output.assistant_message)
            await core.delete_session("s")
        assert answers == ["one", "two"]


async def test_deletion_outlives_the_process(on_disk: Place) -> None:
    """A core that is built afterwards finds the session gone."""
    async with a_core(on_disk, yes()) as core:
        await talk(core)
        await core.delete_session("s")
    async with a_core(on_disk, yes()) as core:
        assert (await core.list_sessions()).sessions == ()
        assert not (await core.delete_session("s")).existed
        async with core.session("s") as session:
            assert lines(session) == []


async def test_every_use_of_an_open_handle_says_that_it_is_deleted(place: Place) -> None:
    """Not closed, and not empty: deleted. Closing it needs nothing any more."""
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        await session.turn("hello").run()
        clone = session.clone()
        await core.delete_session("s")
        for handle in (session, clone):
            for use in (
                handle.read_view,
                handle.usage_report,
                handle.policy_snapshot,
                handle.observe,
                handle.clone,
                handle.cancel_running_turns,
                lambda: handle.turn("and now?"),
            ):
                with pytest.raises(SessionDeleted) as caught:
                    use()
                assert caught.value.session_id == "s"
                assert (caught.value.is_terminal, caught.value.is_retryable) == (True, False)
            with pytest.raises(SessionDeleted):
                await handle.park()
            assert handle.closed
            await handle.close()


async def test_a_closed_handle_still_says_that_it_is_closed(place: Place) -> None:
    """What its owner did to it comes before what happened to its session."""
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        await session.close()
        await core.delete_session("s")
        with pytest.raises(SessionClosed):
            session.read_view()


async def test_a_turn_that_was_prepared_before_is_refused(place: Place) -> None:
    """A builder holds on to the session that it was made from, never to the id."""
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        prepared = session.turn("hello")
        await core.delete_session("s")
        await talk(core, "s", "somebody else's")
        with pytest.raises(SessionDeleted):
            await prepared.run()
        async with core.session("s") as session:
            assert lines(session) == ["user: somebody else's", "assistant: yes"]


async def test_a_parked_session_cannot_be_resumed_once_it_is_deleted(place: Place) -> None:
    """Also when its id is in use again: that is another session."""
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        await session.turn("hello").run()
        parked = await session.park()
        await core.delete_session("s")
        with pytest.raises(SessionDeleted):
            await core.resume(parked)
        await talk(core)
        with pytest.raises(SessionDeleted):
            await core.resume(parked)


async def test_a_running_turn_stores_nothing_and_says_why(place: Place) -> None:
    """Its model call is cut off, nobody waits for it, and the next session has none of it."""
    provider = StallingProvider()
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        async with a_turn_that_stalls(session, provider) as raised:
            await core.delete_session("s")
        assert [type(error) for error in raised] == [SessionDeleted]
        assert provider.cut_off == 1
        async with core.session("s") as session:
            assert lines(session) == []
            await session.turn("hello").run()
            assert lines(session) == ["user: hello", "assistant: yes"]


async def test_a_turn_in_the_middle_of_its_tools_stores_nothing(place: Place) -> None:
    """Progress that would have been kept has nowhere to go."""
    entered, release = anyio.Event(), anyio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        entered.set()
        await release.wait()
        return "done"

    provider = ScriptedProvider([Call.tool("c1", "wait"), Call.text("done")])
    async with a_core(place, provider, wait) as core:
        session = await core.session("s").open()
        async with anyio.create_task_group() as callers:

            async def run() -> None:
                with pytest.raises(SessionDeleted):
                    await session.turn("wait").run()

            callers.start_soon(run)
            await entered.wait()
            await core.delete_session("s")
            release.set()
        async with core.session("s") as again:
            assert lines(again) == []


async def test_turns_in_line_are_refused(place: Place) -> None:
    """They were to run on a session that is gone, and not on the one that comes."""
    provider = StallingProvider()
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        async with a_turn_that_stalls(session, provider) as raised:

            async def stand_in_line() -> None:
                with pytest.raises(SessionDeleted) as caught:
                    await session.turn("next").run()
                raised.append(caught.value)

            async with anyio.create_task_group() as others:
                others.start_soon(stand_in_line)
                await anyio.wait_all_tasks_blocked()
                await core.delete_session("s")
        assert len(raised) == 2
        async with core.session("s") as session:
            assert lines(session) == []


async def test_another_core_learns_of_it_by_its_next_call(on_disk: Place) -> None:
    """As another process would: what it has in memory it may show, nothing more is stored."""
    async with a_core(on_disk, yes()) as here, a_core(on_disk, yes()) as there:
        session = await there.session("s").open()
        await session.turn("hello").run()
        await here.delete_session("s")
        await talk(here, "s", "somebody else's")
        assert lines(session) == ["user: hello", "assistant: yes"]
        for _ in range(2):
            with pytest.raises(SessionDeleted):
                await session.turn("again").run()
        with pytest.raises(SessionDeleted):
            await session.turn(TurnInput.of("look", Image(PNG))).run()
        await session.close()
        async with here.session("s") as other:
            assert lines(other) == ["user: somebody else's", "assistant: yes"]


async def test_another_cores_running_turn_loses_its_lease(on_disk: Place) -> None:
    """The renewal that fails stops the turn, without waiting for its model."""
    provider = StallingProvider()
    timings = LeaseTimings(ttl_ms=300, renew_interval_ms=20)
    builder = on_disk.builder(yes()).lease_timings(timings)
    async with a_core(on_disk, yes()) as here, running(builder.build()) as there:
        session = await there.session("s").open()
        async with a_turn_that_stalls(session, provider) as raised:
            await here.delete_session("s")
        assert [type(error) for error in raised] == [SessionDeleted]
        assert provider.cut_off == 1
        await session.close()
        assert (await here.list_sessions()).sessions == ()


async def test_closing_a_session_that_was_never_stored_and_is_deleted(on_disk: Place) -> None:
    """There is nothing left that its state could be stored in, and nothing keeps it open."""
    async with a_core(on_disk, yes()) as here, a_core(on_disk, yes()) as there:
        async with here.session("other") as other:
            await other.turn("hello").run()
            view = other.read_view()
        session = await there.session("other").open_with_state(view)
        await here.delete_session("other")
        await session.close()
        assert (await here.list_sessions()).sessions == ()


async def test_those_who_watch_see_the_end(place: Place) -> None:
    """A subscription is over, and a cursor leads to a fresh start, never into the next session."""
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        await session.turn("hello").run()
        watched = session.observe()
        seen = watched.current_observation()
        subscription = watched.subscribe_from_cursor(seen.cursor)
        await core.delete_session("s")
        with pytest.raises(RuntimeFailure) as caught:
            await anext(subscription)
        assert caught.value.code == "live_replay"
        async with core.session("s") as again:
            await again.turn("somebody else's").run()
            assert len(watched.current_observation().read_view.messages) == 2
            current = again.observe().current_observation()
            assert len(current.read_view.messages) == 2
            assert "somebody" in current.read_view.messages[0].text
            assert isinstance(again.observe().resume_from_cursor(seen.cursor), SessionGap)


async def test_children_and_neighbours_stay(place: Place) -> None:
    """Deleting takes exactly the session that was named."""
    async with a_core(place, yes()) as core:
        for name in ("s", "s2", "S"):
            await talk(core, name)
        async with core.session("child").parent("s") as child:
            await child.turn("hello").run()
        await core.delete_session("s")
        page = await core.list_sessions()
        assert {entry.session_id for entry in page.sessions} == {"s2", "S", "child"}
        for name in ("s2", "S", "child"):
            async with core.session(name) as session:
                assert lines(session) == ["user: hello", "assistant: yes"]


async def test_attachments_go_with_the_last_session_that_has_them(place: Place) -> None:
    """Two conversations about one picture: deleting the one leaves the other its picture."""
    shown = TurnInput.of("look", Image(PNG))
    async with a_core(place, yes()) as core:
        for name in ("one", "two"):
            async with core.session(name) as session:
                await session.turn(shown).run()
        assert (await core.delete_session("one")).removed_attachment_count == 0
        async with core.session("two") as session:
            await session.turn("again").run()
        assert (await core.delete_session("two")).removed_attachment_count == 1


async def test_a_deletion_whose_caller_leaves_is_carried_through(on_disk: Place) -> None:
    """Half of a session is never left for somebody to stumble over."""
    async with a_core(on_disk, yes()) as core:
        await talk(core)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await core.delete_session("s")
        while (await core.list_sessions()).sessions:
            await anyio.lowlevel.checkpoint()
        assert not (await core.delete_session("s")).existed


async def test_a_core_that_closes_does_not_wait_for_a_long_deletion(place: Place) -> None:
    """It is cut off between two steps, says so, and whoever repeats it finishes it."""
    entered = anyio.Event()

    class Slow(WatchedStores):
        async def delete_session(self, session_id: str) -> SessionDeleteReport:
            entered.set()
            await anyio.sleep_forever()
            raise AssertionError

    async def pass_through(name: str) -> None: ...

    storage = place.storage()
    core = place.builder(yes()).storage(storage).store_factory(Slow(storage, pass_through)).build()
    raised: list[EmbedError] = []

    async def delete() -> None:
        with pytest.raises(EmbedError) as caught:
            await core.delete_session("s")
        raised.append(caught.value)

    async with anyio.create_task_group() as callers, running(core):
        callers.start_soon(delete)
        await entered.wait()
        await core.aclose()
    assert [type(error) for error in raised] == [CoreClosed]
    async with a_core(place, yes()) as core:
        assert not (await core.delete_session("s")).existed


async def test_a_failed_deletion_changes_nothing_and_can_be_repeated(place: Place) -> None:
    """Handles and turns are told only of what has happened."""

    class Full(WatchedStores):
        fails = True

        async def delete_session(self, session_id: str) -> SessionDeleteReport:
            if self.fails:
                raise StoreContended("the disk is busy")
            return await self._stores.delete_session(session_id)

    async def pass_through(name: str) -> None: ...

    storage = place.storage()
    stores = Full(storage, pass_through)
    core = place.builder(yes()).storage(storage).store_factory(stores).build()
    async with running(core), core.session("s") as session:
        await session.turn("hello").run()
        with pytest.raises(StoreFailure) as caught:
            await core.delete_session("s")
        assert caught.value.code == "contended"
        await session.turn("again").run()
        stores.fails = False
        assert (await core.delete_session("s")).existed
        with pytest.raises(SessionDeleted):
            session.read_view()


async def test_a_session_that_is_opened_while_it_is_deleted_is_told(place: Place) -> None:
    """Between the two no state is put together from both."""
    gate = Gate("load_session")
    storage = place.storage()
    stores = WatchedStores(storage, gate)
    stores.delete_session = storage.session_stores.delete_session  # type: ignore[attr-defined]
    core = place.builder(yes()).storage(storage).store_factory(stores).build()
    async with running(core):
        request = SessionStoreCreateRequest(session_id="s")
        await storage.session_stores.create_store(request)
        async with anyio.create_task_group() as callers:

            async def open_it() -> None:
                with pytest.raises(SessionDeleted):
                    await core.session("s").open()

            callers.start_soon(open_it)
            await gate.entered.wait()
            await core.delete_session("s")
            gate.release.set()
        async with core.session("s") as session:
            assert lines(session) == []


async def test_many_delete_and_use_one_id_at_once(place: Place) -> None:
    """Every turn either ran on a session that was whole, or was told that it is deleted."""
    ended: list[str] = []
    async with a_core(place, yes()) as core:

        async def use(number: int) -> None:
            try:
                async with core.session("s") as session:
                    await session.turn(f"turn {number}").run()
                    said = lines(session)
                    assert said[0].startswith("user: turn")
                    assert len(said) % 2 == 0
                    ended.append("ran")
            except SessionDeleted:
                ended.append("deleted")

        async with anyio.create_task_group() as callers:
            for number in range(30):
                callers.start_soon(use, number)
                if number % 5 == 4:
                    callers.start_soon(core.delete_session, "s")
        assert len(ended) == 30
        await core.delete_session("s")
        async with core.session("s") as session:
            assert lines(session) == []


async def test_a_core_without_stored_sessions_says_so() -> None:
    """There is nothing it could delete, and it does not pretend to."""
    core = Place("nothing", None).builder(yes()).build()  # type: ignore[arg-type]
    async with running(core):
        with pytest.raises(MissingSessionStoreFactory):
            await core.delete_session("s")


async def test_an_id_that_cannot_be_one_is_refused(place: Place) -> None:
    """As opening it would be."""
    async with a_core(place, yes()) as core:
        for session_id in ("", "  ", "\ud800"):
            with pytest.raises(InvalidSessionId):
                await core.delete_session(session_id)
