"""The suites of deletion and listing, held to their own purpose: a factory that breaks a rule is
caught.

Each broken storage wraps the memory storage and gets one thing wrong. The case that is named
beside it must pass on the intact one and fail on the broken one.
"""

from dataclasses import replace
from typing import Any

import pytest

from conformance.breaking import passes
from lash_runtime.ports.leases import SessionExecutionLeaseFence
from lash_runtime.ports.session_catalogue import (
    SessionDeleteReport,
    SessionOrder,
    SessionPage,
    SessionPickerInfo,
    SessionQuery,
)
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.turn_ledger import TurnRow
from lash_runtime.stores.memory import MemoryStorage

pytestmark = pytest.mark.anyio


class Broken:
    """A storage that is its own factory, and does everything as the intact one does but for one
    override."""

    def __init__(self) -> None:
        self.intact = MemoryStorage()

    def __getattr__(self, name: str) -> Any:
        if hasattr(self.intact, name):
            return getattr(self.intact, name)
        return getattr(self.intact.session_stores, name)

    @property
    def session_stores(self) -> Any:
        return self


class OnlyHides(Broken):
    """What is deleted is not listed any more, and that is all."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: set[str] = set()

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        existed = session_id not in self.hidden
        self.hidden.add(session_id)
        return SessionDeleteReport(session_id=session_id, existed=existed)

    async def open_existing_store(self, request: SessionStoreCreateRequest) -> Any:
        if request.session_id in self.hidden:
            return None
        return await self.intact.session_stores.open_existing_store(request)


class _Reopening:
    """A store that looks its session up by name, each time anew."""

    def __init__(self, factory: Any, request: SessionStoreCreateRequest) -> None:
        self._factory = factory
        self._request = request
        self.durability_tier = factory.durability_tier

    def __getattr__(self, name: str) -> Any:
        async def call(*asked: Any, **named: Any) -> Any:
            store = await self._factory.create_store(self._request)
            return await getattr(store, name)(*asked, **named)

        return call


class ForgetsTheTombstone(Broken):
    """Whoever held on to a store goes on in the next session of that id."""

    async def create_store(self, request: SessionStoreCreateRequest) -> Any:
        await self.intact.session_stores.create_store(request)
        return _Reopening(self.intact.session_stores, request)


class StartsCountingAgain(Broken):
    """Each deletion wipes the counters as well, as if the id had never been used."""

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        report = await self.intact.session_stores.delete_session(session_id)
        self.intact._library._graves.clear()
        return report


class WaitsForTheLease(Broken):
    """The lease of the deleted session goes on in the next one, until it lapses."""

    def __init__(self) -> None:
        super().__init__()
        self.fence: SessionExecutionLeaseFence | None = None

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        held = self.intact._library.book(session_id).lane._lease
        report = await self.intact.session_stores.delete_session(session_id)
        self.intact._library.book(session_id).lane._lease = held
        return report


class TakesEverybodysBytes(Broken):
    """A session's attachments go with it, whoever else has them."""

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        book = self.intact._library.book(session_id)
        named = book.attachments.ids()
        report = await self.intact.session_stores.delete_session(session_id)
        for name in named:
            await self.intact.attachments.delete(name)
        return report


class LeavesTheBytes(Broken):
    """Nobody will ever find them again."""

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        book = self.intact._library.book(session_id)
        for name in book.attachments.ids():
            book.attachments.forget(name)
        return await self.intact.session_stores.delete_session(session_id)


class DeletesByPrefix(Broken):
    """Ids are compared as beginnings."""

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        report = await self.intact.session_stores.delete_session(session_id)
        for book in self.intact._library.books():
            if book.session_id.startswith(session_id):
                await self.intact.session_stores.delete_session(book.session_id)
        return report


class KeepsTheGeneration(Broken):
    """Turn rows of both sessions say that they are of the first."""

    async def create_store(self, request: SessionStoreCreateRequest) -> Any:
        return _FirstGeneration(await self.intact.session_stores.create_store(request))


class _FirstGeneration:
    def __init__(self, intact: Any) -> None:
        self._intact = intact

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intact, name)

    async def load_turn(self, session_id: str, turn_id: str) -> TurnRow | None:
        row = await self._intact.load_turn(session_id, turn_id)
        return None if row is None else replace(row, generation=1)


class _BrokenList(Broken):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        start = query.start()
        whole = await self.intact.session_stores.list_sessions(
            SessionQuery(order=query.order, limit=1_000)
        )
        return self.page(query, start, list(whole.sessions))

    def page(self, query: SessionQuery, start: Any, entries: list[SessionPickerInfo]) -> Any:
        return query.page(entries)


class SkipsEqualTimes(_BrokenList):
    """The next page begins at an earlier instant than the last one ended."""

    def page(self, query: SessionQuery, start: Any, entries: list[SessionPickerInfo]) -> Any:
        if start is not None:
            entries = [e for e in entries if query.key_of(e).at_epoch_ms < start.at_epoch_ms]
        return query.page(entries)


class RepeatsTheLast(_BrokenList):
    """The next page begins with the entry that the last one ended with."""

    def page(self, query: SessionQuery, start: Any, entries: list[SessionPickerInfo]) -> Any:
        if start is not None:
            entries = [e for e in entries if query.key_of(e) <= start]
        return query.page(entries)


class KnowsOneOrder(Broken):
    """Sessions come by their use, whatever was asked for."""

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        used = replace(query, order=SessionOrder.LAST_USED)
        return await self.intact.session_stores.list_sessions(used)


class TakesAnyCursor(Broken):
    """A cursor that is none is the beginning."""

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        try:
            query.start()
        except Exception:
            query = replace(query, after=None)
        return await self.intact.session_stores.list_sessions(query)


class CountsToolsAsUsers(_BrokenList):
    """Every second message is taken for the user's."""

    def page(self, query: SessionQuery, start: Any, entries: list[SessionPickerInfo]) -> Any:
        return query.page([replace(e, user_message_count=e.message_count // 2) for e in entries])


class ShowsWhatWasReplaced(_BrokenList):
    """The first words of a session are remembered for good."""

    first: str = ""

    def page(self, query: SessionQuery, start: Any, entries: list[SessionPickerInfo]) -> Any:
        shown = []
        for entry in entries:
            self.first = self.first or entry.first_user_message
            shown.append(replace(entry, first_user_message=self.first))
        return query.page(shown)


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (OnlyHides, "test_deleting_removes_everything_of_the_session"),
        (OnlyHides, "test_a_store_of_a_deleted_session_answers_nothing"),
        (OnlyHides, "test_what_waits_goes_with_its_session"),
        (OnlyHides, "test_source_keys_are_free_afterwards"),
        (ForgetsTheTombstone, "test_a_store_of_a_deleted_session_answers_nothing"),
        (ForgetsTheTombstone, "test_a_store_of_a_deleted_session_never_reaches_the_next_one"),
        (ForgetsTheTombstone, "test_a_store_of_a_deleted_session_moves_nothing_that_waits"),
        (StartsCountingAgain, "test_fencing_tokens_and_generations_only_rise"),
        (StartsCountingAgain, "test_a_session_is_deleted_under_a_live_lease"),
        (WaitsForTheLease, "test_a_session_is_deleted_under_a_live_lease"),
        (KeepsTheGeneration, "test_fencing_tokens_and_generations_only_rise"),
        (TakesEverybodysBytes, "test_bytes_go_only_when_nobody_else_names_them"),
        (LeavesTheBytes, "test_bytes_go_only_when_nobody_else_names_them"),
        (DeletesByPrefix, "test_any_id_can_be_deleted_and_only_that_one"),
        (SkipsEqualTimes, "test_sessions_of_one_instant_are_each_listed_once"),
        (RepeatsTheLast, "test_sessions_of_one_instant_are_each_listed_once"),
        (KnowsOneOrder, "test_the_order_of_creation_stays"),
        (TakesAnyCursor, "test_only_a_cursor_of_the_same_listing_leads_on"),
        (CountsToolsAsUsers, "test_what_was_said_is_told_by_counts_and_beginnings"),
        (ShowsWhatWasReplaced, "test_a_replaced_transcript_is_listed_anew"),
    ],
)
async def test_a_broken_factory_is_caught(broken: type[Any], case: str) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    assert await passes(case, MemoryStorage)
    assert not await passes(case, broken)
