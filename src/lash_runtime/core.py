"""The core: one per application. It opens sessions, and owns what they share.

A core opens its storage when it is entered, or at the first session. Every task that its
sessions start belongs to it, and closing it waits for each of them.
"""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias
from weakref import WeakSet

import anyio

from ._translation import translated
from .attachment_access import CoreAttachmentAccess
from .errors import (
    CoreClosed,
    InvalidConfiguration,
    InvalidSessionId,
    MissingSessionStoreFactory,
)
from .model.policy import ModelSpec, SessionPolicy, SessionSpec
from .model.prompt import PromptContribution, PromptLayer, PromptSlot, PromptTemplate
from .model.records import dataclass
from .model.session_meta import ChildRelation, RootRelation, SessionRelation
from .model.unicode_text import why_not_storable
from .ports.attachments import AttachmentStore
from .ports.clock import Clock
from .ports.effects import EffectHost
from .ports.ids import IdSource
from .ports.leases import LeaseOwnerIdentity, LeaseTimings
from .ports.provider import Provider, ResolvedProvider
from .ports.replay import LiveReplayStore
from .ports.session_catalogue import (
    SessionDeleteReport,
    SessionOrder,
    SessionPage,
    SessionQuery,
)
from .ports.storage import SessionStoreCreateRequest, SessionStoreFactory, Storage
from .ports.tools import ToolProvider
from .ports.turn_persistence import TurnPersistence
from .protocols.standard import StandardProtocol
from .providers.handle import as_handle
from .runtime.environment import RuntimeEnvironment
from .runtime.faults import SessionBusy
from .runtime.lash_runtime import LashRuntime, SessionBinding
from .runtime.open_session import OpenSession
from .runtime.residency import Residency
from .session import LashSession, OpenRequest, ParkedSession, SessionBuilder
from .stores.local_process import local_process_liveness
from .stores.memory import MemoryStorage
from .tools import FunctionTool, FunctionToolProvider
from .wiring import CoreParts, CoreWiring, resolver_over

DEFAULT_CONTEXT_WINDOW = 128_000
"""The prompt budget, in tokens, of a model that was given by name alone."""

AnyTool: TypeAlias = FunctionTool[..., Any] | ToolProvider


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
    def builder(cls) -> "LashCoreBuilder":
        """An empty builder: protocol, model, effect host and attachment store must be given."""
        return LashCoreBuilder()

    @classmethod
    def standard_builder(cls) -> "LashCoreBuilder":
        """A builder with the standard protocol, and a storage in memory unless one is given."""
        return LashCoreBuilder(CoreParts(protocol=StandardProtocol()), _memory_by_default=True)

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        provider: Provider | ResolvedProvider,
        model: str | ModelSpec,
        tools: Sequence[AnyTool] = (),
    ) -> "LashCore":
        """The shortest durable core: the standard one over the SQLite file at `path`.

        The file is created and opened when the core is entered.
        """
        # Loaded here, so that a core over another storage need not load SQLite's.
        from .stores.sqlite import SqliteStorage

        return (
            cls.standard_builder()
            .provider(provider)
            .model(model)
            .storage(SqliteStorage(path))
            .tools(*tools)
            .build()
        )

    def session(self, session_id: str) -> SessionBuilder:
        """How to open the session of that id; no I/O. Raises `InvalidSessionId` for a blank id
        or one that is not storable text. Ids are keys and never become paths."""
        _check_session_id(session_id)
        return SessionBuilder(self._open_session, OpenRequest(session_id=session_id))

    async def resume(self, parked: ParkedSession) -> LashSession:
        """Open a parked session again, with the provider, policy and store it was opened with.

        Shares the code of `open()`: what others have committed since is there, and a turn that
        a dead process left is closed first.
        """
        with translated():
            env = await self._started()
            runtime = LashRuntime(env=env, binding=parked.binding, owner=self._new_owner())
            return LashSession(await self._loaded(runtime))

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
        _check_session_id(session_id)
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
        try:
            query = SessionQuery(order=SessionOrder(order), limit=limit, after=after)
        except ValueError as error:
            raise InvalidConfiguration(str(error)) from error
        with translated():
            await self._started()
            return await self._catalogue().list_sessions(query)

    async def session_exists(self, session_id: str) -> bool:
        """Whether a session of that id is stored. Asking creates nothing; opening would."""
        _check_session_id(session_id)
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
        for session in opened:
            session.end_deleted()
        env.cells.drop(session_id)
        return report

    def _catalogue(self) -> SessionStoreFactory:
        if self._wiring.session_stores is None:
            raise MissingSessionStoreFactory
        return self._wiring.session_stores

    async def _shut_down(self, env: RuntimeEnvironment) -> None:
        await env.tasks.aclose()
        for session in tuple(self._sessions):
            session.abandon()
        if self._wiring.own_provider is not None:
            await self._wiring.own_provider.close()
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
            return self._env

    async def _open_session(self, request: OpenRequest) -> OpenSession:
        env = await self._started()
        wiring = self._wiring
        spec = request.spec
        resolver = wiring.resolver if request.provider is None else resolver_over(request.provider)
        policy = spec.resolve_against(wiring.policy)
        store = request.store or await self._store_of(request, policy)
        runtime = LashRuntime(
            env=env,
            binding=SessionBinding(
                session_id=request.session_id,
                store=store,
                resolver=resolver,
                policy=policy,
                host_prompt=spec.prompt is not None,
                parent_session_id=request.parent_session_id,
            ),
            owner=request.owner or self._new_owner(),
            state=request.state,
            replace_session=request.fresh,
        )
        if request.fresh or request.state is not None:
            return self._opened(runtime)
        return await self._loaded(runtime)

    async def _loaded(self, runtime: LashRuntime) -> OpenSession:
        """Bring the stored session into memory, closed by whoever left it open."""
        if runtime.store is None:
            return self._opened(runtime)
        closed = False
        # A turn that runs in this core closes what it finds. To take the session from under it,
        # or from under the next one in line, would refuse them.
        if not runtime.lane.busy:
            # A live owner elsewhere finishes its own. What is committed can be read meanwhile.
            with suppress(SessionBusy):
                closed = await runtime.env.tasks.complete(
                    _close_unfinished(runtime), name=f"lash-close-{runtime.session_id}"
                )
        if not closed:
            runtime.state = await runtime.load()
        return self._opened(runtime)

    def _opened(self, runtime: LashRuntime) -> OpenSession:
        runtime.publish()
        session = OpenSession(runtime)
        self._sessions.add(session)
        return session

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

    def _new_owner(self) -> LeaseOwnerIdentity:
        """Every open is an owner of its own, so that two of them exclude each other; all of
        them can be proven dead together with this process."""
        ids = self._wiring.ids
        return LeaseOwnerIdentity(
            owner_id=ids.uuid(), incarnation_id=ids.uuid(), liveness=local_process_liveness()
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


def _check_session_id(session_id: str) -> None:
    reason = "it is blank" if not session_id.strip() else why_not_storable(session_id)
    if reason is not None:
        raise InvalidSessionId(reason=reason)


async def _close_unfinished(runtime: LashRuntime) -> bool:
    async with runtime.lane.turn():
        return await runtime.closer.close_unfinished()


@dataclass(frozen=True, slots=True)
class LashCoreBuilder:
    """What a core is made of. A value: each setter returns a new builder, and nothing is
    checked or opened before `build()`."""

    _parts: CoreParts = CoreParts()
    _memory_by_default: bool = False

    def protocol(self, protocol: StandardProtocol) -> Self:
        """How a turn goes on from each answer of the model."""
        return self._with(protocol=protocol)

    def provider(self, provider: Provider | ResolvedProvider) -> Self:
        """Where models are called, unless a session or a turn says otherwise.

        The core closes the provider with itself. A `ProviderHandle` is left open for whoever
        made it: pass one to share it between cores.
        """
        handle = as_handle(provider)
        return self._with(provider=handle, own_provider=None if handle is provider else handle)

    def model(
        self,
        model: str | ModelSpec,
        *,
        context_window: int = DEFAULT_CONTEXT_WINDOW,
        output_capacity: int | None = None,
        variant: str | None = None,
    ) -> Self:
        """The model: a name with its limits in tokens, or a whole `ModelSpec`."""
        if isinstance(model, str):
            try:
                model = ModelSpec.from_token_limits(
                    model,
                    context_window=context_window,
                    output_capacity=output_capacity,
                    variant=variant,
                )
            except ValueError as error:
                raise InvalidConfiguration(str(error)) from error
        return self._with(spec=replace(self._parts.spec, model=model))

    def max_turns(self, max_turns: int) -> Self:
        """How many rounds of tools a turn may have before it has to answer."""
        if max_turns < 1:
            raise InvalidConfiguration(f"max_turns must be at least 1, got {max_turns}")
        return self._with(spec=replace(self._parts.spec, max_turns=max_turns))

    def session_spec(self, spec: SessionSpec) -> Self:
        """Set what `spec` sets; what earlier setters have set and `spec` leaves open stays."""
        return self._with(spec=spec.over(self._parts.spec))

    def tools(self, *tools: AnyTool) -> Self:
        """Add tools: functions made with `@tool`, and providers of many tools."""
        functions = [tool for tool in tools if isinstance(tool, FunctionTool)]
        providers: list[ToolProvider] = [
            tool for tool in tools if not isinstance(tool, FunctionTool)
        ]
        if functions:
            providers.insert(0, FunctionToolProvider(*functions))
        return self._with(tools=(*self._parts.tools, *providers))

    def storage(self, storage: Storage) -> Self:
        """Keep everything in one place: every facet that is not set by itself comes from it.

        The core opens the storage and closes it.
        """
        return self._with(storage=storage)

    def store_factory(self, factory: SessionStoreFactory) -> Self:
        """Where sessions are stored. The host opens and closes what is behind it."""
        return self._with(session_stores=factory)

    def attachment_store(self, store: AttachmentStore) -> Self:
        """Where the bytes of images are kept."""
        return self._with(attachments=store)

    def max_attachment_bytes(self, max_bytes: int) -> Self:
        """The largest image that is taken; 20 MiB unless set."""
        if max_bytes < 1:
            raise InvalidConfiguration(f"max_attachment_bytes must be at least 1, got {max_bytes}")
        return self._with(max_attachment_bytes=max_bytes)

    def effect_host(self, host: EffectHost) -> Self:
        """Who executes the steps of a turn."""
        return self._with(effect_host=host)

    def residency(self, residency: Residency | Literal["keep_all", "active_path_only"]) -> Self:
        """How much of an open session is in memory: everything, unless set, or its active path
        alone. The latter needs a store: without one, opening a session raises
        `SessionNotDurable`."""
        try:
            return self._with(residency=Residency(residency))
        except ValueError as error:
            known = ", ".join(repr(member.value) for member in Residency)
            raise InvalidConfiguration(
                f"unknown residency {residency!r}: it is one of {known}"
            ) from error

    def live_replay_store(self, store: LiveReplayStore) -> Self:
        """Where observers catch up from."""
        return self._with(replay=store)

    def lease_timings(self, timings: LeaseTimings) -> Self:
        """How long a session stays held by a process that no longer answers for it."""
        return self._with(lease_timings=timings)

    def clock(self, clock: Clock) -> Self:
        return self._with(clock=clock)

    def ids(self, ids: IdSource) -> Self:
        """Where ids come from; with a clock of one's own this makes runs repeatable."""
        return self._with(ids=ids)

    def prompt_layer(self, layer: PromptLayer) -> Self:
        """Replace the prompt layer that holds for all sessions. Never stored."""
        return self._with(prompt=layer)

    def prompt_template(self, template: PromptTemplate) -> Self:
        return self.prompt_layer(self._parts.prompt.with_template(template))

    def prompt_contribution(self, contribution: PromptContribution) -> Self:
        return self.prompt_layer(self._parts.prompt.add_contribution(contribution))

    def replace_prompt_slot(self, slot: PromptSlot, *contributions: PromptContribution) -> Self:
        return self.prompt_layer(self._parts.prompt.replace_slot(slot, contributions))

    def clear_prompt_slot(self, slot: PromptSlot) -> Self:
        return self.prompt_layer(self._parts.prompt.clear_slot(slot))

    def build(self) -> LashCore:
        """Check the wiring and make the core. Raises a `WiringError` that says what is missing.

        Needs no event loop and opens nothing. Each call makes a core of its own, but the parts
        that were given are shared: give every core its own storage.
        """
        parts = self._parts
        if self._memory_by_default and parts.lacks_facets:
            parts = replace(parts, storage=MemoryStorage())
        return LashCore(parts.wired())

    def _with(self, **changes: object) -> Self:
        return replace(self, _parts=replace(self._parts, **changes))  # type: ignore[arg-type]
