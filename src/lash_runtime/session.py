"""A session as a host holds it: how it is opened, and the handle on an open one."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import field
from types import TracebackType
from typing import Self

from ._arguments import (
    DEFAULT_CONTEXT_WINDOW,
    STORE,
    a_count,
    a_layer,
    a_model,
    a_part,
    a_provider,
    a_session_id,
    a_spec,
    a_text,
    an,
)
from ._prompt_setters import PromptSetters
from ._translation import translated
from .attached_turn import AttachedTurn
from .attachment_access import SessionAttachmentAccess
from .errors import SessionClosed, StoreSessionMismatch
from .kernel.read_view import SessionReadView
from .model.nodes import SessionNodeRecord
from .model.policy import ModelSpec, SessionPolicy, SessionSpec
from .model.prompt import PromptLayer
from .model.records import dataclass, replace
from .model.turn_input import TurnInput
from .model.usage import SessionUsageReport
from .observe import ObservableSession
from .ports.leases import LeaseOwnerIdentity
from .ports.provider import Provider, ResolvedProvider
from .ports.turn_persistence import TurnPersistence
from .providers.shares import GivenProvider
from .runtime.lash_runtime import SessionBinding
from .runtime.open_session import OpenSession
from .runtime.session_attachments import SessionAttachments
from .runtime.state import RuntimeSessionState, state_of_view
from .turn import TurnBuilder


class LashSession:
    """A handle on an open session. Make further handles with `clone()`.

    All handles of one `open()` share its turns, which stand in line. Reads show the last
    committed state and never wait for a running turn. Bound to the event loop it was opened on.
    """

    def __init__(self, shared: OpenSession) -> None:
        self._shared = shared
        self._released = False

    @property
    def session_id(self) -> str:
        return self._shared.session_id

    @property
    def parent_session_id(self) -> str | None:
        return self._live().runtime.binding.parent_session_id

    @property
    def closed(self) -> bool:
        """Whether this handle can no longer be used."""
        return self._released or self._shared.closed

    def turn(self, turn_input: TurnInput | str) -> TurnBuilder:
        """A turn that says `turn_input`; see `TurnBuilder` for how to run it."""
        said = TurnInput.text(turn_input) if isinstance(turn_input, str) else turn_input
        an(TurnInput, said, "a turn says a str or a TurnInput")
        return TurnBuilder(self._live(), said)

    def attach(self, turn_id: str) -> AttachedTurn:
        """The turn of that id, whoever runs it: its activities and its result. No I/O yet.

        It may run or stand in line in this core, run in another process, or be over; see
        `AttachedTurn`. To attach is no use of the session, and keeps nobody from closing it.
        """
        a_text(turn_id, "a turn id")
        with translated():
            return AttachedTurn(self._live().attach(turn_id))

    @property
    def attachments(self) -> SessionAttachmentAccess:
        """Stores images for turns to show, and reads those of the transcript."""
        return SessionAttachmentAccess(self._attachments)

    def _attachments(self) -> SessionAttachments:
        return self._live().runtime.attachments()

    def cancel_running_turns(self) -> int:
        """Cancel every turn started through this handle or its clones, those in line included.

        Returns how many there were, and waits for none: each ends as cancelled, with what it
        has finished stored. Turns of a session that was opened separately are not touched.
        """
        return self._live().cancel_running_turns()

    async def revoke_durable_waits(self) -> None:
        """Answer with `cancelled` whatever the session waits for, so that nobody waits any longer
        and late answers are told. The session goes on, and new waits work.

        Raises `RuntimeFailure("await_event_cancel_unsupported")` where the core's effect host
        cannot do that.
        """
        with translated():
            runtime = self._live().runtime
            if runtime.store is not None:
                await runtime.head()  # of a deleted session there is nothing to cancel
            await runtime.env.await_events.cancel_await_events_for_session(self.session_id)

    def read_view(self) -> SessionReadView:
        """The committed transcript and counters. O(1), and never changes once taken."""
        return self._live().runtime.state.read_view()

    async def historic_node(self, node_id: str) -> SessionNodeRecord | None:
        """One node of the session's graph, also off the active path and also one that is not in
        memory; `None` if there is none of that id, or it was given up.

        Raises `SessionNotDurable` for a node that is not in memory if there is no store.
        """
        a_text(node_id, "a node id")
        with translated():
            return await self._live().runtime.historic_node(node_id)

    async def orphaned_node_ids(self) -> tuple[str, ...]:
        """The nodes that are stored off the active path, oldest first. O(n), in a thread.

        They are kept for as long as the host wants them: nothing here ever drops one. Raises
        `SessionNotDurable` if there is no store.
        """
        with translated():
            return await self._live().runtime.orphaned_node_ids()

    def usage_report(self) -> SessionUsageReport:
        """What the session has spent in all its turns, by source and model, as of its last commit.

        What the last turn alone has spent is in `read_view().token_usage`.
        """
        return self._live().runtime.state.usage_report()

    def policy_snapshot(self) -> SessionPolicy:
        """The policy in force."""
        return self._live().runtime.state.effective_policy

    def observe(self) -> ObservableSession:
        """Watch the session: its commits and, live, what its turns do."""
        return ObservableSession(self._live().runtime.cell)

    def clone(self) -> "LashSession":
        """Another handle on the same open session; it has to be closed like this one."""
        shared = self._live()
        shared.handles += 1
        return LashSession(shared)

    async def close(self) -> None:
        """Give this handle up; the last one closes the session.

        Raises `SessionStillInUse` while this is the last handle and a turn runs or stands in
        line; nothing is changed then. Closing a closed handle does nothing.
        """
        if self.closed:
            return
        if self._shared.handles > 1:
            self._shared.handles -= 1
        else:
            with translated():
                await self._shared.give_up()
        self._released = True

    async def park(self) -> "ParkedSession":
        """Close the session and keep the few hundred bytes that `core.resume` needs.

        What was opened fresh and has had no turn stays fresh: nothing is stored or replaced.
        Raises `SessionStillInUse` while another handle or a turn uses the session, and
        `SessionNotDurable` for a session without a store; the handle stays usable then.
        """
        shared = self._live()
        with translated():
            shared.runtime.require_store("be parked")
            runtime = await shared.give_up()
        self._released = True
        return ParkedSession(runtime.binding)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await close_behind(self, exc)

    def _live(self) -> OpenSession:
        if self.closed:
            with translated():
                self._shared.ensure_open()
            raise SessionClosed(session_id=self.session_id)
        return self._shared

    def __del__(self) -> None:
        if not self.closed:
            warnings.warn(
                f"a handle on session {self.session_id!r} was dropped without being closed: "
                "call close() or park(), or use it as `async with`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


@dataclass(frozen=True, slots=True)
class ParkedSession:
    """A session at rest: what it takes to resume it, and nothing of its transcript.

    Good for as long as its core is open. Any number of turns may be run by others meanwhile.
    """

    binding: SessionBinding = field(repr=False)

    @property
    def session_id(self) -> str:
        return self.binding.session_id

    @property
    def policy(self) -> SessionPolicy:
        return self.binding.policy


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """What a `SessionBuilder` asks of its core."""

    session_id: str
    spec: SessionSpec = SessionSpec()
    provider: GivenProvider | None = None
    parent_session_id: str | None = None
    store: TurnPersistence | None = None
    owner: LeaseOwnerIdentity | None = None
    state: RuntimeSessionState | None = None
    fresh: bool = False


Opener = Callable[[OpenRequest], Awaitable[OpenSession]]


class SessionBuilder(PromptSetters):
    """How to open a session; nothing happens before `open()`, `open_fresh()`,
    `open_with_state()` or `async with`.

    Each setter returns a new builder. Opening an id twice gives two independent handles, whose
    turns stand in one line.
    """

    __slots__ = ("_entered", "_opener", "_request")

    def __init__(self, opener: Opener, request: OpenRequest) -> None:
        self._opener = opener
        self._request = request
        self._entered: dict[object, list[LashSession]] = {}

    def provider(self, provider: Provider | ResolvedProvider) -> Self:
        """Use this provider for the session instead of the core's. The model stays.

        It gets the core's clock and ids, and is closed when the last session or turn of the core
        that uses it is over; parking closes it, too, and a resumed session opens it again. A
        `ProviderHandle` keeps its own time and is left open for whoever made it.
        """
        given = GivenProvider.of(a_provider(provider))
        return self._with(provider=given, spec=replace(self._request.spec, provider_id=given.kind))

    def model(
        self,
        model: str | ModelSpec,
        *,
        context_window: int = DEFAULT_CONTEXT_WINDOW,
        output_capacity: int | None = None,
        variant: str | None = None,
    ) -> Self:
        """The session's model: a name with its limits in tokens, or a whole `ModelSpec`."""
        spec = a_model(
            model,
            context_window=context_window,
            output_capacity=output_capacity,
            variant=variant,
        )
        return self._with(spec=replace(self._request.spec, model=spec))

    def max_turns(self, max_turns: int | None) -> Self:
        """How many rounds of tools a turn may have before it has to answer; `None` for as many
        as it takes."""
        rounds = None if max_turns is None else a_count(max_turns, "max_turns")
        return self._with(spec=replace(self._request.spec, max_turns=rounds))

    def session_spec(self, spec: SessionSpec) -> Self:
        """Set what `spec` sets; what earlier setters have set and `spec` leaves open stays."""
        return self._with(spec=a_spec(spec).over(self._request.spec))

    def parent(self, session_id: str) -> Self:
        """Record the session as a child of `session_id`."""
        return self._with(parent_session_id=a_session_id(session_id))

    def store(self, store: TurnPersistence) -> Self:
        """Use exactly this store, which the host owns, instead of the core's."""
        return self._with(store=a_part(store, "a session's store", STORE))

    def session_execution_owner(self, owner: LeaseOwnerIdentity) -> Self:
        """Take leases as `owner`. For hosts that already let only one process at a session and
        want its next incarnation to re-enter; by default every open is an owner of its own."""
        an(LeaseOwnerIdentity, owner, "an owner is a LeaseOwnerIdentity")
        return self._with(owner=owner)

    def prompt_layer(self, layer: PromptLayer) -> Self:
        """Replace the session's prompt layer, also over one that is stored."""
        return self._with_prompt(a_layer(layer))

    async def open(self) -> LashSession:
        """Open the session as it is stored, or empty if nothing is.

        A turn that a dead process left unfinished is closed as interrupted first.
        """
        return await self._open(self._request)

    async def open_fresh(self) -> LashSession:
        """Open the session empty. What is stored is not read; the first turn replaces it.

        The replacement happens once, with that turn, also after parking and resuming; until then
        what is stored stays, and stays for good if the session is closed without a turn. A turn
        id of the old history is refused with `turn_of_replaced_history`. One whose turn has
        already replaced the history, when the same request is made again, gives its result.
        """
        return await self._open(replace(self._request, fresh=True))

    async def open_with_state(self, state: SessionReadView) -> LashSession:
        """Open the session with `state`, which replaces what is stored at the next commit: that
        of a turn, or of closing or parking. Turn ids of the old history are refused as by
        `open_fresh`.

        Raises `StoreSessionMismatch` if `state` is that of another session.
        """
        an(SessionReadView, state, "a state is a SessionReadView")
        if state.session_id != self._request.session_id:
            raise StoreSessionMismatch(loaded=state.session_id, requested=self._request.session_id)
        return await self._open(replace(self._request, state=state_of_view(state)))

    async def __aenter__(self) -> LashSession:
        session = await self.open()
        # A builder is reused, also by several tasks at once; each leaves what it has entered.
        self._entered.setdefault(asyncio.current_task(), []).append(session)
        return session

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        entered = self._entered[task]
        session = entered.pop()
        if not entered:
            del self._entered[task]
        await close_behind(session, exc)

    @property
    def _prompt(self) -> PromptLayer:
        return self._request.spec.prompt or PromptLayer()

    def _with_prompt(self, layer: PromptLayer) -> Self:
        return self._with(spec=replace(self._request.spec, prompt=layer))

    def _with(self, **changes: object) -> Self:
        return type(self)(self._opener, replace(self._request, **changes))  # type: ignore[arg-type]

    async def _open(self, request: OpenRequest) -> LashSession:
        with translated():
            return LashSession(await self._opener(request))


async def close_behind(session: LashSession, error: BaseException | None) -> None:
    """Close at the end of a block. A session still in use is the block's own error to raise,
    unless the block already ends in another one, which must not be hidden."""
    try:
        await session.close()
    except Exception:
        if error is None:
            raise
