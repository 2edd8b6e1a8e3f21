"""Which version a database is of, and how it comes to the one that this release writes.

Rule 1: the version is read under the write lock before anything is changed, so any number of
openers may come at once, to a new file or to an old one.
Rule 2: a database moves on through every version in turn, in one transaction. Whoever looks sees
the old version or the new one, and a migration that fails leaves the old one.
Rule 3: a database of an unknown version, or of another program, is never changed.
Rule 4: every write looks at the version again. A process that still runs an older release, and
has the file open while a newer one moves it on, is refused from then on.
"""

import sqlite3
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from ...model.records import dataclass
from ...ports.store_errors import StoreSchemaUnsupported
from ._schema import TABLES

APPLICATION_ID: Final = 0x4C617368
"""Marks a file as a database of this library, as SQLite's `application_id`."""

Migration = Callable[[sqlite3.Connection], None]
"""Takes a database to the next version, inside a transaction that it neither begins nor ends."""

MIGRATIONS: Final[tuple[Migration, ...]] = ()
"""The first leads from version 1 to 2. Entries are added and never changed: they are the only way
that the databases of earlier releases have to this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a new database is made of, and the way there from each earlier version."""

    tables: tuple[str, ...]
    migrations: tuple[Migration, ...] = ()

    @property
    def version(self) -> int:
        return 1 + len(self.migrations)


CURRENT: Final = Schema(tables=TABLES, migrations=MIGRATIONS)

SCHEMA_VERSION: Final = CURRENT.version
"""What this release writes, and the latest version that it opens."""


class Standing(Enum):
    """How a database stands to a schema."""

    EMPTY = auto()
    OLDER = auto()
    CURRENT = auto()


def standing(db: sqlite3.Connection, database: str, schema: Schema) -> Standing:
    """Raises `StoreSchemaUnsupported` for a later version and for what is not ours."""
    # One snapshot: between two reads of their own, another opener could make the tables.
    db.execute("BEGIN")
    try:
        return _standing(db, database, schema)
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def prepare(db: sqlite3.Connection, database: str, schema: Schema) -> None:
    """Make the tables of an empty database and move an older one on, unless it is done already."""
    db.execute("BEGIN IMMEDIATE")
    try:
        match _standing(db, database, schema):
            case Standing.EMPTY:
                for statement in schema.tables:
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            case Standing.OLDER:
                for migrate in schema.migrations[version_of(db) - 1 :]:
                    migrate(db)
            case Standing.CURRENT:
                return
        db.execute(f"PRAGMA user_version = {schema.version}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def check_unmoved(db: sqlite3.Connection, database: str, schema: Schema) -> None:
    """Raise `StoreSchemaUnsupported` if the database was moved to another version meanwhile."""
    version = version_of(db)
    if version != schema.version:
        raise _moved(database, version, schema)


def version_of(db: sqlite3.Connection) -> int:
    return _pragma(db, "user_version")


def _standing(db: sqlite3.Connection, database: str, schema: Schema) -> Standing:
    version = version_of(db)
    application = _pragma(db, "application_id")
    if application == APPLICATION_ID:
        if version == schema.version:
            return Standing.CURRENT
        if 1 <= version < schema.version:
            return Standing.OLDER
        raise _moved(database, version, schema)
    if version or application or db.execute(_ANYTHING_IN_IT).fetchone()[0]:
        raise StoreSchemaUnsupported(
            database=database,
            found=version,
            supported=schema.version,
            hint="it belongs to another program; name another file",
        )
    return Standing.EMPTY


_ANYTHING_IN_IT: Final = "SELECT EXISTS (SELECT 1 FROM sqlite_master)"


def _moved(database: str, version: int, schema: Schema) -> StoreSchemaUnsupported:
    return StoreSchemaUnsupported(
        database=database,
        found=version,
        supported=schema.version,
        hint="open it with the release that wrote it, or a later one",
    )


def _pragma(db: sqlite3.Connection, name: str) -> int:
    value: int = db.execute(f"PRAGMA {name}").fetchone()[0]
    return value
