"""Short ways to put something in line for the session `s`, and to see what is in line."""

from typing import Any

from lash_runtime.model.turn_input import TurnInput
from lash_runtime.ports.queued_work import (
    DeliveryPolicy,
    ProcessWakeDelivery,
    ProcessWakePayload,
    QueuedWorkBatchDraft,
    QueuedWorkPayload,
    RefreshToolCatalog,
    SessionCommandPayload,
    SlotPolicy,
)
from lash_runtime.ports.turn_inputs import (
    ActiveTurnIngress,
    NextTurnIngress,
    PendingTurnInputDraft,
)
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._store import SqliteSessionStore
from lash_runtime.testing.conformance._samples import a_store

SESSION = "s"


async def a_sqlite_store(storage: SqliteStorage, session_id: str = SESSION) -> SqliteSessionStore:
    store = await a_store(storage, session_id)
    assert isinstance(store, SqliteSessionStore)
    return store


def a_wake(name: str) -> ProcessWakePayload:
    return ProcessWakePayload(
        wake=ProcessWakeDelivery(
            wake_id=name,
            target_session_id=SESSION,
            target_scope_id="scope",
            process_id="p",
            sequence=1,
            dedupe_key=name,
            input={"from": name},
            created_at_ms=0,
        )
    )


def a_command(reason: str = "asked") -> SessionCommandPayload:
    return SessionCommandPayload(command=RefreshToolCatalog(reason=reason))


def work(*payloads: QueuedWorkPayload, **changes: Any) -> QueuedWorkBatchDraft:
    """Turn work that joins others, at the earliest boundary; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "session_id": SESSION,
        "payloads": payloads,
        "delivery_policy": DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
        "slot_policy": SlotPolicy.JOIN,
    }
    return QueuedWorkBatchDraft(**(fields | changes))


def said(text: str, turn_id: str | None = None, **changes: Any) -> PendingTurnInputDraft:
    """Input of that text and id: for the turn `turn_id`, or for the next one."""
    fields: dict[str, Any] = {
        "session_id": SESSION,
        "ingress": NextTurnIngress() if turn_id is None else ActiveTurnIngress(turn_id=turn_id),
        "input": TurnInput.text(text),
        "input_id": text,
    }
    return PendingTurnInputDraft(**(fields | changes))
