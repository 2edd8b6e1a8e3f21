"""Places where a core can keep its sessions; most tests run over each of them."""

from pathlib import Path

import pytest

from facade.places import Place


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where one database file goes."""
    return tmp_path / "agents.db"


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, database: Path) -> Place:
    """Every storage that ships."""
    return Place(request.param, database)


@pytest.fixture(params=["memory", "sqlite", "nothing"])
def anywhere(request: pytest.FixtureRequest, database: Path) -> Place:
    """Every storage, and a core that stores nothing."""
    return Place(request.param, database)


@pytest.fixture(params=["memory", "inline"])
def unjournaled(request: pytest.FixtureRequest, database: Path) -> Place:
    """Every storage, as it is without a journal."""
    return Place(request.param, database)


@pytest.fixture
def on_disk(database: Path) -> Place:
    """A database file, for what only a file can show."""
    return Place("sqlite", database)
