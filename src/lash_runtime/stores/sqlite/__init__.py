"""The door of the SQLite store: one database file for all sessions of a deployment."""

from ._storage import SqliteStorage

__all__ = ["SqliteStorage"]
