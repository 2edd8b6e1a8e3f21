"""The builder of a core: what an application says before anything is opened."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from ._arguments import (
    ATTACHMENT_STORE,
    CLOCK,
    DEFAULT_CONTEXT_WINDOW,
    EFFECT_HOST,
    ID_SOURCE,
    LIVE_REPLAY_STORE,
    PROTOCOL,
    STORAGE,
    STORE_FACTORY,
    TOOL_PROVIDER,
    a_count,
    a_layer,
    a_model,
    a_part,
    a_provider,
    a_spec,
    an,
    one_of,
)
from ._prompt_setters import PromptSetters
from .model.policy import ModelSpec, SessionSpec
from .model.prompt import PromptLayer
from .model.records import dataclass, replace
from .ports.attachments import AttachmentStore
from .ports.clock import Clock
from .ports.effects import EffectHost
from .ports.ids import IdSource
from .ports.leases import LeaseTimings
from .ports.protocol import TurnProtocol
from .ports.provider import Provider, ResolvedProvider
from .ports.replay import LiveReplayStore
from .ports.storage import SessionStoreFactory, Storage
from .ports.tools import ToolProvider
from .providers.shares import GivenProvider
from .runtime.residency import Residency
from .stores.memory import MemoryStorage
from .tools import FunctionTool, FunctionToolProvider
from .wiring import CoreParts, CoreWiring

if TYPE_CHECKING:
    from .core import LashCore

AnyTool: TypeAlias = FunctionTool[..., Any] | ToolProvider


@dataclass(frozen=True, slots=True)
class LashCoreBuilder(PromptSetters):
    """What a core is made of. A value: each setter returns a new builder.

    A setter raises `InvalidConfiguration` for what cannot work by itself. Whether the parts make
    a whole is checked by `build()`, and nothing is opened before the core is entered.
    """

    _make: "Callable[[CoreWiring], LashCore]"
    _parts: CoreParts = CoreParts()
    _memory_by_default: bool = False

    def protocol(self, protocol: TurnProtocol) -> Self:
        """How a turn goes on from each answer of the model; the last one that is set counts."""
        return self._with(protocol=a_part(protocol, "a protocol", PROTOCOL))

    def provider(self, provider: Provider | ResolvedProvider) -> Self:
        """Where models are called, unless a session or a turn says otherwise.

        The provider gets the core's clock and ids, and the core closes it with itself. A
        `ProviderHandle` keeps its own and is left open for whoever made it: pass one to share it
        between cores.
        """
        return self._with(provider=GivenProvider.of(a_provider(provider)))

    def model(
        self,
        model: str | ModelSpec,
        *,
        context_window: int = DEFAULT_CONTEXT_WINDOW,
        output_capacity: int | None = None,
        variant: str | None = None,
    ) -> Self:
        """The model: a name with its limits in tokens, or a whole `ModelSpec`."""
        spec = a_model(
            model,
            context_window=context_window,
            output_capacity=output_capacity,
            variant=variant,
        )
        return self._with(spec=replace(self._parts.spec, model=spec))

    def max_turns(self, max_turns: int) -> Self:
        """How many rounds of tools a turn may have before it has to answer."""
        rounds = a_count(max_turns, "max_turns")
        return self._with(spec=replace(self._parts.spec, max_turns=rounds))

    def session_spec(self, spec: SessionSpec) -> Self:
        """Set what `spec` sets; what earlier setters have set and `spec` leaves open stays."""
        return self._with(spec=a_spec(spec).over(self._parts.spec))

    def tools(self, *tools: AnyTool) -> Self:
        """Add tools: functions made with `@tool`, and providers of many tools."""
        for tool in tools:
            if not isinstance(tool, FunctionTool):
                a_part(tool, "a function made with @tool, or a tool provider,", TOOL_PROVIDER)
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
        return self._with(storage=a_part(storage, "a storage", STORAGE))

    def store_factory(self, factory: SessionStoreFactory) -> Self:
        """Where sessions are stored. The host opens and closes what is behind it."""
        return self._with(session_stores=a_part(factory, "a store factory", STORE_FACTORY))

    def attachment_store(self, store: AttachmentStore) -> Self:
        """Where the bytes of images are kept."""
        return self._with(attachments=a_part(store, "an attachment store", ATTACHMENT_STORE))

    def max_attachment_bytes(self, max_bytes: int) -> Self:
        """The largest image that is taken; 20 MiB unless set."""
        return self._with(max_attachment_bytes=a_count(max_bytes, "max_attachment_bytes"))

    def effect_host(self, host: EffectHost) -> Self:
        """Who executes the steps of a turn."""
        return self._with(effect_host=a_part(host, "an effect host", EFFECT_HOST))

    def residency(self, residency: Residency | Literal["keep_all", "active_path_only"]) -> Self:
        """How much of an open session is in memory: everything, unless set, or its active path
        alone. The latter needs a store: without one, opening a session raises
        `SessionNotDurable`."""
        return self._with(residency=one_of(Residency, residency, "residency"))

    def live_replay_store(self, store: LiveReplayStore) -> Self:
        """Where observers catch up from."""
        return self._with(replay=a_part(store, "a live replay store", LIVE_REPLAY_STORE))

    def lease_timings(self, timings: LeaseTimings) -> Self:
        """How long a session stays held by a process that no longer answers for it."""
        return self._with(lease_timings=an(LeaseTimings, timings, "lease timings are LeaseTimings"))

    def recover(self, recover: bool) -> Self:
        """Whether the core finishes turns that other processes have left; it does unless set.

        Without, they are finished when their session is used, or by another core.
        """
        return self._with(recover=an(bool, recover, "recover is True or False"))

    def clock(self, clock: Clock) -> Self:
        """What tells the time to everything in the core, leases and waiting included."""
        return self._with(clock=a_part(clock, "a clock", CLOCK))

    def ids(self, ids: IdSource) -> Self:
        """Where ids come from; with a clock of one's own this makes runs repeatable."""
        return self._with(ids=a_part(ids, "an id source", ID_SOURCE))

    def prompt_layer(self, layer: PromptLayer) -> Self:
        """Replace the prompt layer that holds for all sessions. Never stored."""
        return self._with_prompt(a_layer(layer))

    def build(self) -> "LashCore":
        """Check the wiring and make the core. Raises a `WiringError` that says what is missing.

        Needs no event loop and opens nothing. Each call makes a core of its own, but the parts
        that were given are shared: give every core its own storage.
        """
        parts = self._parts
        if self._memory_by_default and parts.lacks_facets:
            parts = replace(parts, storage=MemoryStorage())
        return self._make(parts.wired())

    @property
    def _prompt(self) -> PromptLayer:
        return self._parts.prompt

    def _with_prompt(self, layer: PromptLayer) -> Self:
        return self._with(prompt=layer)

    def _with(self, **changes: object) -> Self:
        return replace(self, _parts=replace(self._parts, **changes))  # type: ignore[arg-type]
