"""The door of the memory store: a storage that lives and dies with its object."""

from ._storage import MemoryStorage

__all__ = ["MemoryStorage"]
