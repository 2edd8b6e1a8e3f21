"""Live replay stores: where the latest events of a session are kept for its observers."""

from .memory import InMemoryLiveReplayStore, InMemoryLiveReplayStoreConfig

__all__ = ["InMemoryLiveReplayStore", "InMemoryLiveReplayStoreConfig"]
