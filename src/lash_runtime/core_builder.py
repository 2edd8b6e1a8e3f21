"""The builder of a core: what an application says before anything is opened."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from .errors import InvalidConfiguration
from .model.policy import ModelSpec, SessionSpec
from .model.prompt import PromptContribution, PromptLayer, PromptSlot, PromptTemplate
from .model.records import dataclass, replace
from .ports.attachments import AttachmentStore
from .ports.clock import Clock
from .ports.effects import EffectHost
from .ports.ids import IdSource
from .ports.leases import LeaseTimings
from .ports.provider import Provider, ResolvedProvider
from .ports.replay import LiveReplayStore
from .ports.storage import SessionStoreFactory, Storage
from .ports.tools import ToolProvider
from .protocols.standard import StandardProtocol
from .providers.handle import as_handle
from .runtime.residency import Residency
from .stores.memory import MemoryStorage
from .tools import FunctionTool, FunctionToolProvider
from .wiring import CoreParts, CoreWiring

if TYPE_CHECKING:
    from .core import LashCore

DEFAULT_CONTEXT_WINDOW = 128_000
"""The prompt budget, in tokens, of a model that was given by name alone."""

AnyTool: TypeAlias = FunctionTool[..., Any] | ToolProvider


@dataclass(frozen=True, slots=True)
class LashCoreBuilder:
    """What a core is made of. A value: each setter returns a new builder, and nothing is
    checked or opened before `build()`."""

    _make: "Callable[[CoreWiring], LashCore]"
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

    def build(self) -> "LashCore":
        """Check the wiring and make the core. Raises a `WiringError` that says what is missing.

        Needs no event loop and opens nothing. Each call makes a core of its own, but the parts
        that were given are shared: give every core its own storage.
        """
        parts = self._parts
        if self._memory_by_default and parts.lacks_facets:
            parts = replace(parts, storage=MemoryStorage())
        return self._make(parts.wired())

    def _with(self, **changes: object) -> Self:
        return replace(self, _parts=replace(self._parts, **changes))  # type: ignore[arg-type]
