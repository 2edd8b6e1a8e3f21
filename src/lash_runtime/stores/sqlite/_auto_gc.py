"""Upkeep that the storage does by itself, a little at a time, after commits.

Rule: it begins when the commit is over and answers for nothing. What goes wrong is logged; the
commit was made.
"""

import logging
from datetime import timedelta
from typing import Final

from ...model.records import dataclass
from . import _upkeep
from ._upkeep import Desk

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GcPolicy:
    """After each `every_commits`-th commit of a storage, tidy the session that was committed to.

    0 means never. Tidying removes blobs that nothing refers to and, with `keep_turns`, turns
    that ended longer ago than that, as `SqliteMaintenance.prune_turns` does.
    """

    every_commits: int = 0
    keep_turns: timedelta | None = None

    def __post_init__(self) -> None:
        if self.every_commits < 0:
            raise ValueError(f"every_commits is 0 or more, not {self.every_commits}")
        if self.keep_turns is not None and self.keep_turns < timedelta():
            raise ValueError(f"keep_turns is no negative time: {self.keep_turns}")


NO_GC: Final = GcPolicy()


class AutoGc:
    """Counts the commits of one storage."""

    __slots__ = ("_commits", "_policy")

    def __init__(self, policy: GcPolicy) -> None:
        self._policy = policy
        self._commits = 0

    async def after_commit(self, desk: Desk, session_id: str, now_ms: int) -> None:
        """Called once for each commit that was made; raises nothing but cancellation."""
        every = self._policy.every_commits
        if every == 0:
            return
        self._commits = (self._commits + 1) % every
        if self._commits:
            return
        try:
            await _upkeep.gc(desk, session_id)
            if self._policy.keep_turns is not None:
                until_ms = now_ms - self._policy.keep_turns // timedelta(milliseconds=1)
                await _upkeep.prune_turns(desk, until_ms, session_id)
        except Exception:
            log.exception("session %r was committed to, but could not be tidied", session_id)
