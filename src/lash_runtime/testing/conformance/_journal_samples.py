"""Journals as the cases write and read them."""

from dataclasses import replace
from typing import Final, Protocol

import pytest

from ...model.policy import ModelSpec, SessionPolicy
from ...ports.invocations import RuntimeEffectKind
from ...ports.journal import (
    EffectIdentity,
    EffectRecorded,
    EffectReserved,
    JournalEntry,
    JournalStore,
    JournalWrite,
)
from ...ports.leases import LeaseOwnerIdentity, SessionExecutionLeaseFence
from ...ports.persistence import RuntimePersistence
from ...ports.storage import Storage
from ...ports.turn_ledger import TurnAcceptance, TurnAccepted
from ..clocks import ManualClock
from ._case import StorageCase
from ._samples import ALICE, BOB, TTL_MS, a_store, accepted, an_acceptance, hold

POLICY: Final = SessionPolicy(
    model=ModelSpec.from_token_limits("m1", context_window=9_000), max_turns=3
)


class JournaledPersistence(RuntimePersistence, JournalStore, Protocol):
    """A session store with a journal."""


async def a_journal(storage: Storage, session_id: str = "s") -> JournaledPersistence:
    store = await a_store(storage, session_id)
    assert isinstance(store, JournalStore)
    return store


def an_effect(
    key: str,
    kind: RuntimeEffectKind = RuntimeEffectKind.TOOL_ATTEMPT,
    *,
    position: str = "2",
    subject: str = "pay",
    arguments: str = "ab12",
) -> EffectIdentity:
    return EffectIdentity(
        replay_key=key,
        kind=kind,
        position=position,
        subject=subject,
        components={"tool": subject, "arguments": arguments},
    )


def reserved(key: str, due_at_ms: int | None = None) -> EffectReserved:
    return EffectReserved(effect=an_effect(key), due_at_ms=due_at_ms)


def recorded(key: str, outcome: str = '{"done":1}') -> EffectRecorded:
    return EffectRecorded(effect=an_effect(key), outcome=outcome)


def begun(key: str, runs: int = 1, due_at_ms: int | None = None) -> JournalEntry:
    return JournalEntry(effect=an_effect(key), runs=runs, due_at_ms=due_at_ms)


def done(key: str, runs: int = 1, outcome: str = '{"done":1}') -> JournalEntry:
    return replace(begun(key, runs), outcome=outcome)


def a_journaled_turn(
    turn_id: str = "t1",
    text: str = "hello",
    *,
    session_id: str = "s",
    owner: LeaseOwnerIdentity = ALICE,
    replace_session: bool = False,
) -> TurnAcceptance:
    return an_acceptance(
        turn_id,
        text,
        session_id=session_id,
        owner=owner,
        replace_session=replace_session,
        journaled=True,
        policy=POLICY,
    )


async def a_turn_with(
    store: JournaledPersistence, *writes: JournalWrite, turn_id: str = "t1"
) -> TurnAccepted:
    """A journaled turn that runs and has `writes` on record."""
    turn = await accepted(store, a_journaled_turn(turn_id))
    await store.write_journal(turn.lease.fence(), turn_id, writes)
    return turn


async def entries(
    store: JournaledPersistence, turn_id: str = "t1", session_id: str = "s"
) -> list[JournalEntry]:
    return list(await store.load_journal(session_id, turn_id))


async def taken_over(
    store: JournaledPersistence, clock: ManualClock, owner: LeaseOwnerIdentity = BOB
) -> SessionExecutionLeaseFence:
    """The lane of a holder that says nothing any more."""
    clock.advance(TTL_MS / 1000)
    return (await hold(store, owner=owner)).fence()


class JournalCase(StorageCase):
    """Base of the suites for stores that keep journals."""

    @pytest.fixture
    def journaling(self, storage: Storage, needs_journal: None) -> Storage:
        """A storage whose stores keep journals."""
        return storage
