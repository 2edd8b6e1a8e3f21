"""The folder in which a session was begun, which a picker shows beside its name."""

import os
from pathlib import Path

import pytest

from lash_runtime.ports.session_catalogue import SessionQuery
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.stores.sqlite import SqliteStorage

pytestmark = pytest.mark.anyio


async def begun(storage: SqliteStorage, session_id: str = "s") -> str | None:
    """The folder of a session, as its metadata has it and the list of sessions shows it."""
    request = SessionStoreCreateRequest(session_id=session_id)
    meta = await (await storage.session_stores.create_store(request)).load_session_meta()
    assert meta is not None
    page = await storage.session_stores.list_sessions(SessionQuery())
    assert {entry.session_id: entry.cwd for entry in page.sessions}[session_id] == meta.cwd
    return meta.cwd


async def test_a_session_remembers_the_folder_that_it_was_begun_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its creation, not of whoever opens it later."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    async with SqliteStorage(tmp_path / "agents.db") as storage:
        monkeypatch.chdir(home)
        assert await begun(storage) == str(home)
        monkeypatch.chdir(elsewhere)
        assert await begun(storage) == str(home)
        await storage.session_stores.delete_session("s")
        assert await begun(storage) == str(elsewhere)


async def test_a_session_can_be_begun_in_a_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody needs the folder, so its absence stops nothing."""
    gone = tmp_path / "gone"
    gone.mkdir()
    async with SqliteStorage(tmp_path / "agents.db") as storage:
        monkeypatch.chdir(gone)
        gone.rmdir()
        assert await begun(storage) is None


async def test_a_session_can_be_begun_in_a_folder_whose_name_is_not_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems take names that are not valid in any encoding; a database does not."""
    odd = os.fsencode(tmp_path) + b"/\xff\xfe"
    try:
        os.mkdir(odd)
    except OSError:
        pytest.skip("this file system takes no such name")
    async with SqliteStorage(tmp_path / "agents.db") as storage:
        monkeypatch.chdir(os.fsdecode(odd))
        folder = await begun(storage)
        assert folder == f"{tmp_path}/\\udcff\\udcfe"
