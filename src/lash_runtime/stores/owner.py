"""Whose an open storage is: one event loop's, in one process."""

import asyncio
import os

from ..ports.store_errors import StoreForked, StoreWrongLoop


class StorageOwner:
    """The loop and the process that are running when it is made."""

    __slots__ = ("_loop", "_pid")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    @property
    def is_this_process(self) -> bool:
        return os.getpid() == self._pid

    @property
    def has_ended(self) -> bool:
        """Whether nothing can ever run on its loop again."""
        return self._loop.is_closed()

    def check(self) -> None:
        """Raise `StoreForked` or `StoreWrongLoop` unless it is the owner that calls."""
        if not self.is_this_process:
            raise StoreForked
        if asyncio.get_running_loop() is not self._loop:
            raise StoreWrongLoop
