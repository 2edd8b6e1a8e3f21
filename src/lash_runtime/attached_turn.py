"""A turn that somebody else runs, read and waited for by its id."""

from types import TracebackType
from typing import Self

from ._translation import translated
from .model.activity import TurnActivity
from .runtime.followed_turn import FollowedTurn
from .runtime.turn.result import TurnResult


class AttachedTurn:
    """A turn as its `TurnStream` shows it, for somebody who did not start it, from
    `session.attach(turn_id)`.

    A turn that this core runs, or has in line, is read from its first activity on as far as the
    live log has it, and then live. What is lost is said in its place, by a `RuntimeDiagnostic` of
    the kind `activities_gap`. Of a turn that another process runs, or that is over, there is
    nothing to read, and the stream ends when the turn has ended. `finish()` gives the result of
    any of them.

    Attaching steers nothing: the turn never waits for this reader, and to leave, to be cancelled
    or to be dropped without closing detaches and does nothing else. One reader for each; any
    number of tasks may wait for the result. It does not keep its session from being closed or
    parked, and goes on afterwards; it ends with its core.

    Iteration and `finish()` raise the error that the turn has failed with, and
    `RuntimeFailure("unknown_turn")` where there is no such turn.
    """

    def __init__(self, followed: FollowedTurn) -> None:
        self._followed = followed

    @property
    def turn_id(self) -> str:
        return self._followed.turn_id

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TurnActivity:
        activity = await self.next_activity()
        if activity is None:
            raise StopAsyncIteration
        return activity

    async def next_activity(self) -> TurnActivity | None:
        """The next activity; `None` after the last. Being cancelled here loses nothing."""
        with translated():
            activity = await self._followed.next_activity()
            if activity is None and not self._followed.left:
                await self._followed.result()
        return activity

    async def finish(self) -> TurnResult:
        """Stop reading and wait for the result. May be called again, from any task, and after
        `aclose()`."""
        await self._followed.leave()
        with translated():
            return await self._followed.result()

    async def aclose(self) -> None:
        """Stop reading, from any task. The turn goes on. Idempotent."""
        await self._followed.leave()

    async def __aenter__(self) -> Self:
        """Raises `RuntimeFailure("unknown_turn")` where there is no such turn."""
        with translated():
            await self._followed.ensure_known()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
