"""Whether the rows of durable waits make sense: each is what its key says, and can be read."""

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from pydantic import TypeAdapter

from ...ports.await_events import AwaitEventWaitIdentity, key_id_of
from ...ports.execution_scope import ExecutionScope, session_of, turn_of
from ...ports.store_errors import StoreError
from ...waits.book import SECRET_BYTES
from . import _waits
from ._records import decode_as

WAITS: Final = """
    SELECT key_id, scope_json, wait_json, session_id, generation, turn_id, resolved_at_ms,
           terminal_json
      FROM await_event_waits
     WHERE session_id IS NULL
        OR session_id NOT IN (SELECT session_id FROM sessions WHERE deleted_at_ms IS NOT NULL)
     ORDER BY rowid
"""


def problems(db: sqlite3.Connection) -> Iterator[tuple[str | None, str]]:
    """Every problem, with the session that it is one of."""
    rows = db.execute(WAITS).fetchall()
    signed_with = _waits.secret(db)
    if signed_with is None and rows:
        yield None, "the secret is missing that the keys of its waits were signed with"
    if signed_with is not None and len(signed_with) != SECRET_BYTES:
        yield None, f"the secret that keys are signed with has {len(signed_with)} bytes"
    scopes: TypeAdapter[ExecutionScope] = TypeAdapter(ExecutionScope)
    waits: TypeAdapter[AwaitEventWaitIdentity] = TypeAdapter(AwaitEventWaitIdentity)
    for key_id, scope_json, wait_json, session_id, *rest in rows:
        try:
            scope = decode_as(scopes, scope_json, kind="scope")
            wait = decode_as(waits, wait_json, kind="wait")
            found = list(_problems(key_id, scope, wait, session_id, *rest))
        except StoreError as error:
            found = [str(error)]
        for text in found:
            yield session_id, f"the wait {key_id!r}: {text}"


def _problems(
    key_id: str,
    scope: ExecutionScope,
    wait: AwaitEventWaitIdentity,
    session_id: str | None,
    generation: int | None,
    turn_id: Any,
    resolved_at_ms: int | None,
    terminal: str | None,
) -> Iterator[str]:
    if key_id != key_id_of(scope, wait, generation):
        yield "it is known by the key of another one"
    if (session_of(scope), turn_of(scope)) != (session_id, turn_id):
        yield "it is listed under another session or turn than its own"
    if (terminal is None) != (resolved_at_ms is None):
        yield "whether it was answered, and when, do not agree"
    if terminal is not None:
        _waits.decoded(terminal)
