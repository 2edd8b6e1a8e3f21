"""Reading the list of sessions. An index holds each order, so a page costs what it shows."""

import sqlite3
from typing import Final

from ...model.session_meta import SessionMeta
from ...ports.session_catalogue import (
    SessionOrder,
    SessionPage,
    SessionPickerInfo,
    SessionQuery,
)
from ._records import decode

_ENTRY: Final = """
    SELECT session.session_id, created_at_ms, updated_at_ms, message_count, user_message_count,
           first_user_message, last_message, meta_json
      FROM sessions AS session
      JOIN session_meta AS meta ON meta.session_id = session.session_id
     WHERE deleted_at_ms IS NULL
"""
LAST_USED: Final = f"""
    {_ENTRY} AND (updated_at_ms, session.session_id) < (?, ?)
     ORDER BY updated_at_ms DESC, session.session_id DESC
     LIMIT ?
"""
LAST_USED_FIRST: Final = f"""
    {_ENTRY}
     ORDER BY updated_at_ms DESC, session.session_id DESC
     LIMIT ?
"""
CREATED: Final = f"""
    {_ENTRY} AND (created_at_ms, session.session_id) < (?, ?)
     ORDER BY created_at_ms DESC, session.session_id DESC
     LIMIT ?
"""
CREATED_FIRST: Final = f"""
    {_ENTRY}
     ORDER BY created_at_ms DESC, session.session_id DESC
     LIMIT ?
"""

_FIRST: Final = {SessionOrder.LAST_USED: LAST_USED_FIRST, SessionOrder.CREATED: CREATED_FIRST}
_NEXT: Final = {SessionOrder.LAST_USED: LAST_USED, SessionOrder.CREATED: CREATED}


def page(db: sqlite3.Connection, query: SessionQuery) -> SessionPage:
    start = query.start()
    asked = query.limit + 1
    if start is None:
        rows = db.execute(_FIRST[query.order], (asked,))
    else:
        rows = db.execute(_NEXT[query.order], (start.at_epoch_ms, start.session_id, asked))
    return query.page([_entry(row) for row in rows])


def _entry(row: tuple[str, int, int, int, int, str, str, str]) -> SessionPickerInfo:
    session_id, created_at, updated_at, messages, asked, first, last, text = row
    meta = decode(SessionMeta, text, kind="session's metadata")
    return SessionPickerInfo(
        session_id=session_id,
        session_name=meta.session_name,
        created_at_epoch_ms=created_at,
        updated_at_epoch_ms=updated_at,
        model=meta.model,
        cwd=meta.cwd,
        relation=meta.relation,
        message_count=messages,
        user_message_count=asked,
        first_user_message=first,
        last_message=last,
    )
