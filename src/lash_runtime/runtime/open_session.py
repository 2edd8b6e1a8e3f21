"""What all handles on one open session share: its runtime, its turns, and who still uses it.

A session can be given up only by its last handle, with no turn running or in line. That is
counted here, never guessed from garbage collection.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from ..model.causes import CausalRef
from ..model.nodes import SessionAppendNode
from ..model.policy import SessionSpec
from ..model.turn_input import TurnInput
from ..model.unicode_text import why_not_storable
from ..ports.turn_ledger import TurnRow
from ..providers.shares import ProviderUse
from . import between_turns
from .between_turns import AppendedNodes, OpenedFrame, StaleBranch
from .faults import RuntimeFault, SessionBusy, SessionInUse, SessionIsClosed, SessionIsDeleted
from .followed_turn import FollowedTurn
from .lash_runtime import LashRuntime
from .running_turns import RunningTurn, RunningTurns
from .tasks import OwnedTask
from .turn.request import TurnRequest
from .turn.sinks import TurnActivitySink
from .turn.stored_request import missing_wiring

T = TypeVar("T")


class OpenSession:
    """One open session. `handles` counts the live handles on it."""

    def __init__(self, runtime: LashRuntime, provider: ProviderUse | None = None) -> None:
        """`provider` is the session's hold on a provider of its own, which ends with it."""
        self._runtime = runtime
        self._provider = provider
        self._turns = RunningTurns()
        self._changes: set[OwnedTask[Any]] = set()
        self._closed = False
        self._deleted = False
        self.handles = 1

    @property
    def runtime(self) -> LashRuntime:
        """The runtime. Raises `SessionIsClosed` once the session was given up."""
        self.ensure_open()
        return self._runtime

    @property
    def session_id(self) -> str:
        return self._runtime.session_id

    @property
    def closed(self) -> bool:
        return self._closed

    def ensure_open(self) -> None:
        if self._deleted:
            raise SessionIsDeleted(self.session_id)
        if self._closed:
            raise SessionIsClosed(self.session_id)

    def turn_id_for(self, explicit: str | None, turn_input: TurnInput) -> str:
        """The id of a turn: the one given, the one the input carries, or a fresh one.

        Raises `RuntimeFault("missing_execution_scope_id")` for a blank id and
        `execution_scope_turn_id_mismatch` when the two that were given differ.
        """
        carried = turn_input.trace_turn_id
        if explicit is not None and carried is not None and explicit != carried:
            raise RuntimeFault(
                "execution_scope_turn_id_mismatch",
                f"the turn is named {explicit!r}, but its input carries the id {carried!r}: "
                "give one of them",
            )
        turn_id = explicit if explicit is not None else carried
        if turn_id is None:
            return self._runtime.env.ids.uuid()
        check_turn_id(turn_id)
        return turn_id

    def start_turn(self, request: TurnRequest, sink: TurnActivitySink | None) -> RunningTurn:
        self.ensure_open()
        return self._turns.start(self._runtime, request, sink)

    def attach(self, turn_id: str) -> FollowedTurn:
        """A place in that turn. Counts as no use of the session, and outlives it."""
        self.ensure_open()
        check_turn_id(turn_id)
        return FollowedTurn(self._runtime, turn_id)

    def cancel_running_turns(self) -> int:
        self.ensure_open()
        return self._turns.cancel_all()

    async def give_up(self) -> LashRuntime:
        """Mark the session closed and return its runtime, with nothing left to store.

        Raises `SessionInUse` while another handle, a turn or a change uses it, and whatever kept
        its state from being stored; in both cases nothing was changed and the session stays open.
        """
        self._ensure_unused()
        if self._runtime.state.is_unstored:
            # Of a session that was deleted elsewhere nothing is left to store.
            with suppress(SessionIsDeleted):
                await self._runtime.env.tasks.complete(
                    self._flush(), name=f"lash-flush-{self.session_id}"
                )
            self._ensure_unused()
        self._shut()
        await self.let_go()
        return self._runtime

    async def append_nodes(
        self, nodes: Sequence[SessionAppendNode], *, requires_ancestor_node_id: str | None = None
    ) -> AppendedNodes | StaleBranch:
        """As `between_turns.append_session_nodes`. Raises `SessionBusy` also while a turn of
        this session runs or is in line: only its runner moves the head then."""
        return await self._change(
            partial(
                between_turns.append_session_nodes,
                drafts=nodes,
                requires_ancestor_node_id=requires_ancestor_node_id,
            )
        )

    async def configure(self, spec: SessionSpec) -> None:
        """As `between_turns.configure_session`, with the same addition."""
        await self._change(partial(between_turns.configure_session, spec=spec))

    async def open_frame(
        self,
        frame_id: str,
        *,
        reason: str,
        initial_nodes: Sequence[SessionAppendNode] = (),
        caused_by: CausalRef | None = None,
    ) -> OpenedFrame:
        """As `between_turns.open_agent_frame`, with the same addition."""
        return await self._change(
            partial(
                between_turns.open_agent_frame,
                frame_id=frame_id,
                reason=reason,
                initial_nodes=initial_nodes,
                caused_by=caused_by,
            )
        )

    async def _change(self, change: Callable[[LashRuntime], Awaitable[T]]) -> T:
        """Make `change` in the session's lane. It is over when this returns, unless the caller
        is cancelled: then it goes on, and the session stays in use until it is over."""
        runtime = self.runtime
        if (turn_id := self._turns.leading_id) is not None:
            raise SessionBusy(
                session_id=self.session_id,
                holder=runtime.owner.owner_id,
                turn_id=turn_id,
            )

        async def in_the_lane() -> T:
            async with runtime.lane.turn():
                return await change(runtime)

        # In a task of the core, so that a cancelled caller cannot tear it: the lease that it
        # takes can only be given back by itself.
        made = self._own(in_the_lane(), name=f"lash-change-{self.session_id}")
        await made.settled()
        return made.result()

    def finish_left(self, rows: Sequence[TurnRow]) -> None:
        """Finish what another process has left of this session, in the background: the session
        is in use until that is over. For turns that need what this session was opened with."""
        for row in rows:
            if not missing_wiring(
                row.required_wiring, self._runtime.env, self._runtime.has_provider
            ):
                self._turns.finish(self._runtime, row)

    def _own(self, work: Coroutine[Any, Any, T], *, name: str) -> OwnedTask[T]:
        """Run `work` in a task of the core, during which the session is in use."""
        made = self._runtime.env.tasks.start(work, name=name)
        self._changes.add(made)
        made.task.add_done_callback(lambda _: self._changes.discard(made))
        return made

    async def _flush(self) -> None:
        async with self._runtime.lane.turn():
            await between_turns.flush(self._runtime)

    async def let_go(self) -> None:
        """Give back what the session held open. For one that is closed; bounded."""
        if self._provider is not None:
            await self._provider.end()

    def abandon(self) -> None:
        """Close without storing anything: the core is going away."""
        if not self._closed:
            self._shut()

    def end_deleted(self) -> None:
        """The session was deleted: its turns wind down, and every use of it says so from now on.
        What it held open is still to be let go.

        A turn that runs stores nothing and fails with `SessionIsDeleted`.
        """
        if not self._closed:
            self._deleted = True
            self._turns.cancel_all()
            self._shut()

    def _shut(self) -> None:
        self._closed = True
        self._runtime.cell.release()

    def _ensure_unused(self) -> None:
        self.ensure_open()
        if self.handles > 1 or len(self._turns) or self._changes:
            raise SessionInUse(self.session_id, handles=self.handles - 1, turns=len(self._turns))


def check_turn_id(turn_id: str) -> None:
    """Raise unless `turn_id` can name a turn."""
    if not turn_id.strip():
        raise RuntimeFault(
            "missing_execution_scope_id", "a turn id must not be blank: leave it out for a new one"
        )
    if (reason := why_not_storable(turn_id)) is not None:
        raise RuntimeFault("invalid_turn_id", f"a turn id must be storable text: {reason}")
    if ":agent-frame:" in turn_id:
        raise RuntimeFault(
            "invalid_turn_id",
            f"turn id {turn_id!r} contains ':agent-frame:', which names the later parts of a turn",
        )
