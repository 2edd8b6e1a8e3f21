"""The door of the SQLite store: one database file for all sessions of a deployment."""

from ._auto_gc import GcPolicy
from ._blobs import BuiltinBlobProfile
from ._check import Problem
from ._inspection import DatabaseInfo
from ._maintenance import SqliteMaintenance
from ._migrations import SCHEMA_VERSION
from ._storage import SqliteStorage
from ._upkeep import PruneReport

__all__ = [
    "SCHEMA_VERSION",
    "BuiltinBlobProfile",
    "DatabaseInfo",
    "GcPolicy",
    "Problem",
    "PruneReport",
    "SqliteMaintenance",
    "SqliteStorage",
]
