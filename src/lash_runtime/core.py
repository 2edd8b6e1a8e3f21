"""The core: one per application. It opens sessions, and owns what they share.

A core opens its storage when it is entered, or at the first session. Every task that its
sessions start belongs to it, and closing it waits for each of them.
"""

import warnings
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from os import PathLike
from types import TracebackType
from typing import Self
from weakref import WeakSet

import anyio

from ._arguments import a_count, a_remark, a_session_id, a_text, an, one_of
from ._translation import translated
from .attachment_access import CoreAttachmentAccess
from .completions import Completions
from .core_builder import AnyTool, LashCoreBuilder
from .core_recovery import CoreRecovery
from .errors import (
    CoreClosed,
    MissingSessionStoreFactory,
    StoreSessionMismatch,
)
from .model.cancelling import CancelVerdict
from .model.policy import ModelSpec, SessionPolicy
from .model.session_meta import ChildRelation, RootRelation, SessionRelation
from .ports.effects import EffectHost
from .ports.provider import Provider, ResolvedProvider
from .ports.session_catalogue import (
    MAX_PAGE,
    SessionDeleteReport,
    SessionOrder,
    SessionPage,
    SessionQuery,
)
from .ports.storage import SessionStoreCreateRequest, SessionStoreFactory
from .ports.turn_ledger import TurnRow
from .ports.turn_persistence import TurnPersistence
from .protocols.standard import StandardProtocol
from .runtime.cancel_turn import cancel_turn
from .runtime.environment import RuntimeEnvironment
from .runtime.faults import SessionBusy
from .runtime.hearing import hear_cancels
from .runtime.lash_runtime import LashRuntime, SessionBinding, StartOver
from .runtime.open_session import OpenSession, check_turn_id
from .runtime.recovery import UnfinishedTurn
from .runtime.state import RuntimeSessionState
from .runtime.turn.unfinished import TurnCloser
from .session import LashSession, OpenRequest, ParkedSession, SessionBuilder
from .wiring import CoreParts, CoreWiring, resolver_over


class LashCore:
    """What an application opens its sessions from. Use it as `async with`, or close it with
    `aclose()`. Belongs to one event loop."""

    def __init__(self, wiring: CoreWiring) -> None:
        self._wiring = wiring
        self._env: RuntimeEnvironment | None = None
        self._starting = anyio.Lock()
        self._closed = False
        self._shut = anyio.Event()
        self._sessions: WeakSet[OpenSession] = WeakSet()

    @classmethod
    def builder(cls) -> LashCoreBuilder:
        """An empty builder: protocol, model, effect host and attachment store must be given."""
        return LashCoreBuilder(cls)

    @classmethod
    def standard_builder(cls) -> LashCoreBuilder:
        """A builder with the standard protocol, and a storage in memory unless one is given."""
        return LashCoreBuilder(cls, CoreParts(protocol=StandardProtocol()), _memory_by_default=True)

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        provider: Provider | ResolvedProvider,
        model: str | ModelSpec,
        tools: Sequence[AnyTool] = (),
        recover: bool = True,
    ) -> "LashCore":
        """The shortest durable core: the standard one over the SQLite file at `path`.

        The file is created and opened when the core is entered. `recover=False` is for tools and
        scripts that should leave alone what other processes have left unfinished.
        """
        an((str, PathLike), path, "the path of the database is a str or a path")
        an(Iterable, tools, "tools is a list of tools")
        # Loaded here, so that a core over another storage need not load SQLite's.
        from .stores.sqlite import SqliteStorage

        return (
            cls.standard_builder()
            .provider(provider)
            .model(model)
            .storage(SqliteStorage(path))
            .tools(*tools)
            .recover(recover)
            .build()
        )

    def session(self, session_id: str) -> SessionBuilder:
        """How to open the session of that id; no I/O. Raises `InvalidSessionId` for a blank id
        or one that is not storable text. Ids are keys and never become paths."""
        a_session_id(session_id)
        return SessionBuilder(self._open_session, OpenRequest(session_id=session_id))

    async def resume(self, parked: ParkedSession) -> LashSession:
        """Open a parked session again, with the provider, policy, store and owner that it was
        opened with.

        Shares the code of `open()`: what others have committed since is there, and a turn that
        a dead process left is closed first. A session that was parked fresh, before its first
        turn, is fresh again.
        """
        an(ParkedSession, parked, "what is resumed is the ParkedSession that park() gave")
        with translated():
            env = await self._started()
            return LashSession(await self._opened(env, parked.binding))

    async def cancel_turn(
        self,
        session_id: str,
        turn_id: str,
        *,
        reason: str | None = None,
        origin: str | None = None,
    ) -> CancelVerdict:
        """Cancel a turn by its id, whoever runs it: this core, another process, or nobody yet.

        `accepted`: it ends as cancelled, with all that it has finished, or has ended so already.
        `completion_won`: it had ended before, in another way. `unknown_turn`: nothing is known of
        it. The request is stored with the turn, and its commit heeds it, so the first two are
        final. The first `reason` and `origin` (why, and who asks) are in `TurnResult.cancellation`.

        A turn of this core winds down at once, also one in line. Another process hears of the
        request when it next renews its lease or stores something. Waits for no turn to end.

        Cancelling the wait does not take the request back. Raises `InvalidSessionId`, a
        `RuntimeFailure` for what cannot be a turn id, and `StoreFailure` when the request could
        not be written; then nothing was stopped.
        """
        a_session_id(session_id)
        a_text(turn_id, "a turn id")
        why, who = a_remark(reason, "a reason"), a_remark(origin, "an origin")
        with translated():
            check_turn_id(turn_id)
            env = await self._started()
            open_here = [s for s in self._sessions if s.session_id == session_id and not s.closed]
            opened = [s.runtime.store for s in open_here if s.runtime.store is not None]
            asking = env.tasks.start(
                cancel_turn(env, opened, session_id, turn_id, reason=why, origin=who),
                name=f"lash-cancel-{turn_id}",
            )
            await asking.settled()
            if asking.interrupted:
                raise CoreClosed
            return asking.result()

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        """Delete the session and everything that is its own, whoever is using it.

        Its open handles, in this and every other process, raise `SessionDeleted` from then on,
        and so does a turn that runs, which stores nothing. Child sessions stay. Attachments go
        unless another session refers to them. Deleting again, or what never existed, is no
        error; opening the id afterwards starts an empty session.

        Cancelling the wait does not stop the deletion. Closing the core does, and repeating it
        then finishes it. Raises `MissingSessionStoreFactory` for a core that stores nothing, and
        `InvalidSessionId`.
        """
        a_session_id(session_id)
        with translated():
            env = await self._started()
            deletion = env.tasks.start(
                self._delete(env, self._catalogue(), session_id), name=f"lash-delete-{session_id}"
            )
            await deletion.settled()
            if deletion.interrupted:
                raise CoreClosed
            return deletion.result()

    async def list_sessions(
        self,
        *,
        order: SessionOrder = SessionOrder.LAST_USED,
        limit: int = 50,
        after: str | None = None,
    ) -> SessionPage:
        """A page of the stored sessions, newest first; loads no transcript.

        `after` is the `next_cursor` of the page before, and leads on in the same order. `limit`
        is from 1 to 1,000. Raises `MissingSessionStoreFactory` for a core that stores nothing,
        and a `StoreFailure` with the code `invalid_page_cursor`.
        """
        query = SessionQuery(
            order=one_of(SessionOrder, order, "order"),
            limit=a_count(limit, "limit", at_most=MAX_PAGE),
            after=None if after is None else a_text(after, "after"),
        )
        with translated():
            await self._started()
            return await self._catalogue().list_sessions(query)

    async def unfinished_turns(self) -> Sequence[UnfinishedTurn]:
        """Every accepted turn that is not over, of all sessions, whoever runs it.

        `missing` says what this core would need to finish it: such a turn is finished by a core
        that has it, or when a host opens the session with it. Raises `MissingSessionStoreFactory`
        for a core that stores nothing.
        """
        with translated():
            env = await self._started()
            return await CoreRecovery(self._wiring, env, self._catalogue()).unfinished()

    async def session_exists(self, session_id: str) -> bool:
        """Whether a session of that id is stored. Asking creates nothing; opening would."""
        a_session_id(session_id)
        with translated():
            await self._started()
            request = SessionStoreCreateRequest(session_id=session_id)
            return await self._catalogue().open_existing_store(request) is not None

    async def start(self) -> None:
        """Open the storage; entering the core and opening a session do it as needed."""
        with translated():
            await self._started()

    @property
    def attachments(self) -> CoreAttachmentAccess:
        """Reads images that sessions refer to, without opening one, and sweeps the others."""
        return CoreAttachmentAccess(self._started)

    def completions(self) -> Completions:
        """Answers durable waits from outside: a web hook, a button, another process."""
        return Completions(self._started)

    def effect_host(self) -> EffectHost:
        """The core's effect host, for direct use. What it raises is of `lash_runtime.ports`."""
        return self._wiring.effect_host

    async def aclose(self) -> None:
        """Stop what runs, wait for it, and close the storage. Idempotent; every caller returns
        when the core is closed.

        A running turn is interrupted, not cancelled: nothing of it is recorded, and it is
        closed as interrupted when its session is used again.
        """
        # Shielded whole: a block that is left by a cancellation has to close its core all the same.
        # What bounds it are the deadlines of the tasks and of the storage.
        with anyio.CancelScope(shield=True):
            if self._closed:
                await self._shut.wait()
                return
            self._closed = True
            try:
                async with self._starting:
                    env, self._env = self._env, None
                if env is not None:
                    await self._shut_down(env)
            finally:
                self._shut.set()

    async def _delete(
        self, env: RuntimeEnvironment, stores: SessionStoreFactory, session_id: str
    ) -> SessionDeleteReport:
        # Those that are open by now. One that is opened meanwhile may be of the next session.
        opened = [session for session in self._sessions if session.session_id == session_id]
        report = await stores.delete_session(session_id)
        if not self._wiring.waits_go_with_sessions:
            await env.await_events.revoke_await_events_for_session(session_id)
        for session in opened:
            session.end_deleted()
        env.cells.drop(session_id)
        env.turns.drop(session_id)
        for session in opened:
            await session.let_go()
        return report

    def _catalogue(self) -> SessionStoreFactory:
        if self._wiring.session_stores is None:
            raise MissingSessionStoreFactory
        return self._wiring.session_stores

    async def _shut_down(self, env: RuntimeEnvironment) -> None:
        await env.tasks.aclose()
        for session in tuple(self._sessions):
            session.abandon()
        await self._wiring.providers.aclose()
        if self._wiring.own_replay is not None:
            self._wiring.own_replay.close()
        if self._wiring.storage is not None:
            with translated():
                await self._wiring.storage.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _started(self) -> RuntimeEnvironment:
        if self._env is not None:
            return self._env
        async with self._starting:
            if self._closed:
                raise CoreClosed
            if self._env is None:
                wiring = self._wiring
                if wiring.storage is not None:
                    wiring.storage.bind(clock=wiring.clock, ids=wiring.ids)
                    await wiring.storage.open()
                self._env = wiring.environment()
                self._start_background(self._env)
            return self._env

    def _start_background(self, env: RuntimeEnvironment) -> None:
        """What goes on for as long as the core is open. All of it is the task owner's."""
        wiring = self._wiring
        signals = wiring.signals
        if signals is not None:
            env.tasks.start(hear_cancels(env, signals), name="lash-cancels")
        if wiring.recover and wiring.session_stores is not None:
            CoreRecovery(wiring, env, wiring.session_stores).start(signals)

    async def _open_session(self, request: OpenRequest) -> OpenSession:
        env = await self._started()
        spec = request.spec
        policy = spec.resolve_against(self._wiring.policy)
        store = request.store
        if store is None:
            store = await self._store_of(request, policy)
        else:
            await _check_store(store, request.session_id)
        binding = SessionBinding(
            session_id=request.session_id,
            store=store,
            policy=policy,
            host_prompt=spec.prompt is not None,
            provider=request.provider,
            parent_session_id=request.parent_session_id,
            owner=request.owner,
            start_over=StartOver() if request.fresh else None,
        )
        return await self._opened(env, binding, request.state)

    async def _opened(
        self,
        env: RuntimeEnvironment,
        binding: SessionBinding,
        state: RuntimeSessionState | None = None,
    ) -> OpenSession:
        """An open session, with `state` or as it is stored, that holds its own provider."""
        use = None if binding.provider is None else env.providers.use(binding.provider)
        async with AsyncExitStack() as unless_opened:
            if use is not None:
                unless_opened.push_async_callback(use.end)
            runtime = LashRuntime(
                env=env,
                binding=binding,
                resolver=self._wiring.resolver if use is None else resolver_over(use.provider),
                owner=binding.owner or self._wiring.new_owner(),
                state=state,
            )
            left: Sequence[TurnRow] = ()
            if state is None and binding.store is not None and not runtime.starts_over:
                left = await self._load(runtime)
            runtime.publish()
            session = OpenSession(runtime, use)
            unless_opened.pop_all()  # the session ends the use from here on
        if use is not None and self._wiring.recover:
            # The core's own recovery cannot finish what this provider has begun.
            session.finish_left(left)
        self._sessions.add(session)
        return session

    async def _load(self, runtime: LashRuntime) -> Sequence[TurnRow]:
        """Bring the stored session into memory, closed by whoever left it open. Returns what is
        left to be finished."""
        closer, closed = runtime.closer, False
        # A turn that runs in this core closes what it finds. To take the session from under it,
        # or from under the next one in line, would refuse them.
        if not runtime.lane.busy:
            # A live owner elsewhere finishes its own. What is committed can be read meanwhile.
            with suppress(SessionBusy):
                closed = await runtime.env.tasks.complete(
                    _close_unfinished(runtime, closer), name=f"lash-close-{runtime.session_id}"
                )
        if not closed:
            runtime.state = await runtime.load()
        return closer.left

    async def _store_of(
        self, request: OpenRequest, policy: SessionPolicy
    ) -> TurnPersistence | None:
        factory = self._wiring.session_stores
        if factory is None:
            return None
        parent = request.parent_session_id
        relation: SessionRelation = (
            RootRelation() if parent is None else ChildRelation(parent_session_id=parent)
        )
        return await factory.create_store(
            SessionStoreCreateRequest(
                session_id=request.session_id, policy=policy, relation=relation
            )
        )

    def __del__(self) -> None:
        if self._env is not None:
            warnings.warn(
                "a LashCore was dropped without being closed: use it as `async with`, "
                "or call aclose()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


async def _check_store(store: TurnPersistence, session_id: str) -> None:
    """A store that a host has picked may be that of another session, also one without a turn."""
    meta = await store.load_session_meta()
    if meta is not None and meta.session_id != session_id:
        raise StoreSessionMismatch(loaded=meta.session_id, requested=session_id)


async def _close_unfinished(runtime: LashRuntime, closer: TurnCloser) -> bool:
    async with runtime.lane.turn():
        return await closer.close_unfinished()
