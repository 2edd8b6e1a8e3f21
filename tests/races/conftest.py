"""The processes are those of the crash tests."""

from crash.conftest import processes

__all__ = ["processes"]
