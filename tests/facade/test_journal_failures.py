"""A journal that cannot be written: the turn stops, nothing is lost, and the next use goes on."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.finishing import (
    WHOLE,
    Agent,
    Shop,
    about_to_close,
    cut_off_in_tool,
    is_restart,
    is_retired,
    row_of,
    run_whole,
)
from facade.graphs import the_store
from facade.places import Place, running
from facade.transcripts import lines
from facade.watched import WatchedStores
from lash_runtime import (
    EmbedError,
    LashCore,
    LeaseOwnerIdentity,
    RuntimeFailure,
    SessionDeleted,
)
from lash_runtime.observe import Replayed, TurnActivityPayload
from lash_runtime.ports.leases import LeaseAcquired
from lash_runtime.ports.store_errors import (
    SessionExecutionLeaseExpired,
    StoreBackendError,
    StoreContended,
    StoredSessionDeleted,
    StoreError,
)
from lash_runtime.ports.turn_ledger import TurnState
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import text_response

pytestmark = pytest.mark.anyio

ERRORS = [
    (StoreContended("busy"), "contended"),
    (StoreBackendError("disk full"), "store_commit_failed"),
    (SessionExecutionLeaseExpired(session_id="s"), "session_execution_lease_lost"),
]
WRITES = ["reserving a round", "recording it", "reserving a call", "recording it too"]


class Refuses:
    """Has the store refuse the `at`-th call of `name`, before or after it was made."""

    def __init__(self, error: StoreError, at: int, name: str = "write_journal") -> None:
        self.error: StoreError | None = error
        self.left = at
        self.name = name

    async def __call__(self, name: str) -> None:
        if name == self.name and self.error is not None:
            self.left -= 1
            if self.left < 0:
                error, self.error = self.error, None
                raise error


def a_core(place: Place, refuses: Any, agent: Agent, shop: Shop) -> LashCore:
    storage = SqliteStorage(place.database)
    builder = shop.builder(place, agent).storage(storage)
    return builder.store_factory(WatchedStores(storage, refuses)).build()


async def is_free(place: Place) -> bool:
    """Whether another owner gets the lane at once."""
    async with the_store(place) as store:
        other = LeaseOwnerIdentity(owner_id="other", incarnation_id="1")
        claimed = await store.try_claim_session_execution_lease("s", other, 1_000)
        if not isinstance(claimed, LeaseAcquired):
            return False
        await store.release_session_execution_lease(claimed.lease.fence())
        return True


class TestAWriteThatIsRefused:
    @pytest.mark.parametrize("at", range(4), ids=WRITES)
    @pytest.mark.parametrize(("error", "code"), ERRORS, ids=[code for _, code in ERRORS])
    async def test_the_turn_stops_and_goes_on_when_it_is_asked_for_again(
        self, on_disk: Place, at: int, error: StoreError, code: str
    ) -> None:
        """On the same handle, by the same call: what was on record is not paid for again."""
        shop, agent = Shop(), Agent()
        core = a_core(on_disk, Refuses(error, at), agent, shop)
        async with running(core), core.session("s") as session:
            turn = session.turn("Go").turn_id("t")
            with pytest.raises(RuntimeFailure) as raised:
                await turn.run()
            assert raised.value.code == code
            assert lines(session) == []
            row = await row_of(on_disk)
            assert (row.state, row.failure) == (TurnState.RUNNING, None)
            # A lease that the store calls expired is not there to be given back.
            assert await is_free(on_disk) is (code != "session_execution_lease_lost")
            rounds = list(agent.rounds)
            output = await turn.run()
            assert is_restart(output.activities[0])
            assert lines(session) == WHOLE
        assert sorted(shop.did) == sorted(
            ["sky", "sea", "me", *(["sky", "sea"] if at == 1 else []), *(["me"] if at == 3 else [])]
        )
        assert rounds == ([0] if at < 2 else [0, 1])
        # What rode along with the write that was refused has to be asked for again.
        assert agent.rounds[len(rounds) :] == {0: [0, 1, 2], 1: [1, 2], 2: [1, 2], 3: [2]}[at]
        assert await is_retired(on_disk)

    @pytest.mark.parametrize(("error", "code"), ERRORS[:2], ids=[code for _, code in ERRORS[:2]])
    async def test_whoever_comes_next_finishes_it(
        self, on_disk: Place, error: StoreError, code: str
    ) -> None:
        """Another core, at once, whatever it came for."""
        core = a_core(on_disk, Refuses(error, 3), Agent(), Shop())
        async with running(core), core.session("s") as session:
            with pytest.raises(RuntimeFailure):
                await session.turn("Go").turn_id("t").run()
            shop = Shop()
            other = shop.builder(on_disk, Agent()).build()
            async with running(other), other.session("s") as second:
                await second.turn("And now?").run()
                assert lines(second) == [*WHOLE, "user: And now?", *WHOLE[1:]]
            assert shop.did[:1] == ["me"]
            found = await session.turn("Go").turn_id("t").run()
            assert found.assistant_message == "Done."

    @pytest.mark.parametrize(("error", "code"), ERRORS[:2], ids=[code for _, code in ERRORS[:2]])
    async def test_whoever_comes_next_is_told_when_it_cannot_be_finished(
        self, on_disk: Place, error: StoreError, code: str
    ) -> None:
        """Once, and not after trying again and again: each try may run the tool again."""
        await cut_off_in_tool(on_disk, "me")

        async def always(name: str) -> None:
            if name == "write_journal":
                raise error

        shop, agent = Shop(), Agent()
        core = a_core(on_disk, always, agent, shop)
        async with running(core), core.session("s") as session:
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("And now?").turn_id("later").run()
            assert raised.value.code == code
            assert (agent.calls, shop.did) == (0, [])
        row = await row_of(on_disk)
        assert (row.state, row.attempt) == (TurnState.RUNNING, 2)
        async with the_store(on_disk) as store:
            assert await store.load_turn("s", "later") is None

    async def test_a_store_that_is_busy_for_long_is_no_death(self, on_disk: Place) -> None:
        """The turn has nothing to do with it, however often it happens."""
        shop, agent = Shop(), Agent()
        refuses = Refuses(StoreContended("busy"), 0)
        core = a_core(on_disk, refuses, agent, shop)
        async with running(core), core.session("s") as session:
            for _ in range(10):
                refuses.error = StoreContended("busy")
                with pytest.raises(RuntimeFailure) as raised:
                    await session.turn("Go").turn_id("t").run()
                assert raised.value.is_retryable
            assert (await session.turn("Go").turn_id("t").run()).is_success

    async def test_the_other_calls_of_the_round_are_over_when_the_turn_stops(
        self, on_disk: Place
    ) -> None:
        """No tool is left running behind a caller that was told that the turn has stopped."""
        shop = Shop("sea")
        core = a_core(on_disk, Refuses(StoreBackendError("disk full"), 1), Agent(), shop)
        with anyio.fail_after(30):
            async with running(core), core.session("s") as session:
                async with session.turn("Go").turn_id("t").stream() as stream:
                    await shop.entered.wait()
                    await stream.aclose()
                assert shop.did == ["sky", "sea"]
        assert (await row_of(on_disk)).state in (TurnState.RUNNING, TurnState.COMMITTED)


class TestACommitThatIsRefused:
    async def test_a_busy_store_leaves_the_turn_to_be_finished(self, on_disk: Place) -> None:
        """The error says that a retry helps, and it does: nothing is run again but the last call
        of the model, whose answer was to be stored with the turn."""
        shop, agent = Shop(), Agent()
        refuses = Refuses(StoreContended("busy"), 0, "commit_runtime_state")
        core = a_core(on_disk, refuses, agent, shop)
        async with running(core), core.session("s") as session:
            turn = session.turn("Go").turn_id("t")
            with pytest.raises(RuntimeFailure) as raised:
                await turn.run()
            assert (raised.value.code, raised.value.is_retryable) == ("contended", True)
            assert await is_free(on_disk)
            assert (await turn.run()).assistant_message == "Done."
            assert lines(session) == WHOLE
        assert shop.did == ["sky", "sea", "me"]
        assert agent.rounds == [0, 1, 2, 2]

    async def test_without_a_journal_it_is_the_end_of_the_turn(self, on_disk: Place) -> None:
        """Nobody could go on with it, so it is settled, and says why whenever it is asked for."""
        inline = Place("inline", on_disk.database)
        refuses = Refuses(StoreContended("busy"), 2, "commit_runtime_state")
        core = a_core(inline, refuses, Agent(), Shop())
        async with running(core), core.session("s") as session:
            for _ in range(2):
                with pytest.raises(RuntimeFailure) as raised:
                    await session.turn("Go").turn_id("t").run()
                assert raised.value.code == "contended"
        assert (await row_of(on_disk)).state is TurnState.FAILED


class TestAReadThatFails:
    @pytest.mark.parametrize("error", [StoreBackendError("damaged"), StoreContended("busy")])
    async def test_a_turn_that_cannot_be_gone_on_with_now_is_left(
        self, on_disk: Place, error: StoreError
    ) -> None:
        """What was said before it could not be read: that is no end of the turn."""
        refuses = Refuses(error, 1, "load_session")  # the first one opens the session
        core = a_core(on_disk, refuses, Agent(), Shop())
        async with running(core), core.session("s") as session:
            greeting = Shop().builder(on_disk, Agent([text_response("Hello.")])).build()
            async with running(greeting), greeting.session("s") as other:
                await other.turn("Hi").run()
            await cut_off_in_tool(on_disk, "me")
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("Go").turn_id("t").run()
            assert raised.value.code in ("session_head_refresh", "contended")
            row = await row_of(on_disk)
            assert (row.state, row.deaths) == (TurnState.RUNNING, 0)
            assert await is_free(on_disk)
            assert (await session.turn("Go").turn_id("t").run()).assistant_message == "Done."
            assert lines(session)[2:] == WHOLE

    async def test_a_turn_that_could_not_begin_is_left(self, on_disk: Place) -> None:
        """It was accepted, so it is run as soon as its history can be read."""
        refuses = Refuses(StoreBackendError("damaged"), 1, "load_session")
        core = a_core(on_disk, refuses, Agent(), Shop())
        other = Shop().builder(on_disk, Agent([text_response("Hello.")])).build()
        async with running(core), running(other), core.session("s") as session:
            async with other.session("s") as second:
                await second.turn("Hi").run()
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("Go").turn_id("t").run()
            assert raised.value.code == "session_head_refresh"
            assert (await row_of(on_disk)).state is TurnState.RUNNING
            assert (await session.turn("Go").turn_id("t").run()).is_success
            assert lines(session) == ["user: Hi", "assistant: Hello.", *WHOLE]


class TestALeaseThatIsGone:
    NAME = LeaseOwnerIdentity(owner_id="worker", incarnation_id="1")

    async def test_the_old_process_adds_nothing_to_a_turn_that_another_has_finished(
        self, on_disk: Place
    ) -> None:
        """A host that lets its next incarnation enter again: the first one is only slow."""
        slow, fast = Shop("me"), Shop()
        old, new = slow.builder(on_disk, Agent()).build(), fast.builder(on_disk, Agent()).build()
        async with running(old), running(new):
            one = await old.session("s").session_execution_owner(self.NAME).open()
            stream = one.turn("Go").turn_id("t").stream()
            await slow.entered.wait()
            async with new.session("s").session_execution_owner(self.NAME) as two:
                output = await two.turn("Go").turn_id("t").run()
                assert output.assistant_message == "Done."
                slow.release.set()
                with pytest.raises(RuntimeFailure) as raised:
                    await stream.finish()
                assert raised.value.code == "session_execution_lease_lost"
                assert lines(two) == WHOLE
            await one.close()
        assert (slow.did, fast.did) == (["sky", "sea", "me"], ["me"])
        row = await row_of(on_disk)
        assert (row.state, row.attempt) == (TurnState.COMMITTED, 2)


class TestASessionThatIsDeleted:
    @pytest.mark.parametrize("at", range(4), ids=WRITES)
    async def test_a_write_that_finds_it_gone_ends_the_turn(self, on_disk: Place, at: int) -> None:
        """Its caller is told so, and nothing of the turn comes back."""
        error = StoredSessionDeleted(session_id="s")
        core = a_core(on_disk, Refuses(error, at), Agent(), Shop())
        async with running(core), core.session("s") as session:
            with pytest.raises(SessionDeleted):
                await session.turn("Go").turn_id("t").run()

    @pytest.mark.parametrize("by", ["itself", "another core"])
    async def test_a_session_that_is_deleted_under_a_tool_is_gone(
        self, on_disk: Place, by: str
    ) -> None:
        """With its journal: the id begins anew, and the same turn id is a new turn."""
        shop = Shop("me")
        core = shop.builder(on_disk, Agent()).build()
        other = Shop().builder(on_disk, Agent()).build()
        async with running(core), running(other):
            session = await core.session("s").open()
            stream = session.turn("Go").turn_id("t").stream()
            await shop.entered.wait()
            await (core if by == "itself" else other).delete_session("s")
            shop.release.set()
            with pytest.raises(EmbedError) as raised:
                await stream.finish()
            assert raised.value.code == "session_deleted"
            assert await is_retired(on_disk)
            async with other.session("s") as anew:
                assert lines(anew) == []
                output = await anew.turn("Go").turn_id("t").run()
                assert not is_restart(output.activities[0])
                assert lines(anew) == WHOLE

    async def test_an_unfinished_turn_goes_with_its_session(self, on_disk: Place) -> None:
        """Nobody finishes what nobody can see any more."""
        shop = Shop("me")
        async with about_to_close(shop.builder(on_disk, Agent()).build()):
            await shop.entered.wait()
        agent = Agent()
        core = Shop().builder(on_disk, agent).build()
        async with running(core):
            await core.delete_session("s")
            assert await is_retired(on_disk)
            async with core.session("s") as session:
                assert lines(session) == []
                await session.turn("Other").turn_id("t").run()
                assert lines(session)[0] == "user: Other"


async def test_a_tab_shows_no_row_of_a_turn_twice(on_disk: Place, tmp_path: Path) -> None:
    """Whoever watches a core that goes on with a turn ends up with the rows of one run of it."""
    whole = await run_whole(Place("sqlite", tmp_path / "whole.db"))
    core = a_core(on_disk, Refuses(StoreBackendError("disk full"), 3), Agent(), Shop())
    async with running(core), core.session("s") as session:
        observable = session.observe()
        cursor = observable.current_observation().cursor
        with pytest.raises(RuntimeFailure):
            await session.turn("Go").turn_id("t").run()
        await session.turn("Go").turn_id("t").run()
        resumed = observable.resume_from_cursor(cursor)
        assert isinstance(resumed, Replayed)
    shown: list[str] = []
    rows: list[str] = []
    for event in resumed.events:
        if not isinstance(event.payload, TurnActivityPayload):
            continue
        if is_restart(event.payload.activity):
            rows.clear()
            continue
        rows.append(event.payload.activity.event.type)
        shown.append(rows[-1])
    assert sorted(rows) == sorted(activity.event.type for activity in whole.activities)
    assert len(shown) > len(rows)
