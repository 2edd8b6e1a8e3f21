"""What a host passes to a setter or a method, checked where it is passed.

Rule 1: a part is asked for what it can do, never for where it comes from.
Rule 2: whatever is refused is refused with `InvalidConfiguration`, or `InvalidSessionId`, which
names the argument, what came in its place, and what to give.
"""

from enum import Enum
from typing import Any, Final, TypeVar

from .errors import InvalidConfiguration, InvalidSessionId
from .model._value import Unset
from .model.policy import ModelSpec, SessionSpec
from .model.prompt import PromptContribution, PromptLayer, PromptSlot
from .model.unicode_text import why_not_storable
from .providers.components import ProviderComponents

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

DEFAULT_CONTEXT_WINDOW: Final = 128_000
"""The prompt budget, in tokens, of a model that was given by name alone."""

PROVIDER: Final = ("kind", "options", "complete", "close")
STORAGE: Final = ("session_stores", "attachments", "bind", "open", "aclose")
STORE_FACTORY: Final = ("durability_tier", "create_store")
STORE: Final = ("load_session", "accept_turn", "commit_runtime_state")
ATTACHMENT_STORE: Final = ("durability_tier", "put", "get")
EFFECT_HOST: Final = ("durability_tier", "scoped_static")
LIVE_REPLAY_STORE: Final = ("append", "replay_after_cursor")
PROTOCOL: Final = (
    "id",
    "driver",
    "preamble",
    "sync_execution_environment",
    "execution_prompt",
)
CLOCK: Final = ("now", "timestamp_ms", "sleep")
ID_SOURCE: Final = ("uuid", "hex", "uniform")
TOOL_PROVIDER: Final = ("tool_manifests", "resolve_contract", "execute")
SINK: Final = ("emit",)
"""What tells a part of each kind from everything else."""


def an(kind: type[T] | tuple[type[T], ...], value: object, what: str) -> T:
    """`value`, if it is of that class; `what` is the whole phrase that says what it is to be."""
    if not isinstance(value, kind):
        raise InvalidConfiguration(f"{what}, not {_named(value)}")
    return value


def a_count(value: object, name: str, at_most: int | None = None) -> int:
    """A whole number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidConfiguration(f"{name} is a whole number, not {_named(value)}")
    if value < 1 or (at_most is not None and value > at_most):
        limits = "at least 1" if at_most is None else f"from 1 to {at_most}"
        raise InvalidConfiguration(f"{name} must be {limits}, got {value}")
    return value


def a_text(value: object, name: str) -> str:
    return an(str, value, f"{name} is a str")


def a_remark(value: object, name: str) -> str | None:
    """Text to be stored, or nothing."""
    if value is None:
        return None
    text = an(str, value, f"{name} is a str")
    if (why_not := why_not_storable(text)) is not None:
        raise InvalidConfiguration(f"{name} must be storable text: {why_not}")
    return text


def one_of(kind: type[E], value: object, name: str) -> E:
    """A member of `kind`, also given by its value."""
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(repr(member.value) for member in kind)
        raise InvalidConfiguration(f"unknown {name} {value!r}: it is one of {known}") from error


def a_part(value: T, what: str, members: tuple[str, ...]) -> T:
    """`value`, if it has what a part of that kind is called by."""
    if isinstance(value, type):
        raise InvalidConfiguration(
            f"{what} is an object, not the class {value.__name__}: call it, {value.__name__}(...)"
        )
    missing = [member for member in members if not hasattr(value, member)]
    if missing:
        raise InvalidConfiguration(
            f"{what} is expected, not {_named(value)}, which has no {', '.join(missing)}"
        )
    return value


def a_provider(provider: T) -> T:
    """A provider, a handle on one, or the components of one."""
    called: Any = provider.provider if isinstance(provider, ProviderComponents) else provider
    kind = a_part(called, "a provider", PROVIDER).kind
    if not isinstance(kind, str) or not kind.strip():
        raise InvalidConfiguration(
            f"the kind of a provider is the name that sessions record, not {kind!r}: "
            f"give {type(called).__name__} one"
        )
    return provider


def a_session_id(value: object) -> str:
    """Raises `InvalidSessionId` for what cannot be a key."""
    if not isinstance(value, str):
        raise InvalidSessionId(reason=f"it is {_named(value)}, not a str")
    reason = "it is blank" if not value.strip() else why_not_storable(value)
    if reason is not None:
        raise InvalidSessionId(reason=reason)
    return value


def a_model(
    model: str | ModelSpec,
    *,
    context_window: int = DEFAULT_CONTEXT_WINDOW,
    output_capacity: int | None = None,
    variant: str | None = None,
) -> ModelSpec:
    """The model that a host has named, with its limits in tokens, or its whole spec."""
    if isinstance(model, str):
        model = ModelSpec.from_token_limits(
            model,
            context_window=a_count(context_window, "context_window"),
            output_capacity=None
            if output_capacity is None
            else a_count(output_capacity, "output_capacity"),
            variant=None if variant is None else a_text(variant, "variant"),
        )
    an(ModelSpec, model, "the model is a name or a ModelSpec")
    if not model.id.strip():
        raise InvalidConfiguration("the model has no name: give .model('name', ...)")
    return model


def a_spec(spec: SessionSpec) -> SessionSpec:
    """A spec whose fields hold what the setters of the same names would take."""
    an(SessionSpec, spec, "a session's settings are a SessionSpec")
    if spec.model is not None:
        a_model(an(ModelSpec, spec.model, "the model of a SessionSpec is a ModelSpec"))
    if spec.max_turns is not None and not isinstance(spec.max_turns, Unset):
        a_count(spec.max_turns, "max_turns")
    if spec.provider_id is not None:
        a_text(spec.provider_id, "provider_id")
    if spec.prompt is not None:
        a_layer(spec.prompt)
    return spec


def a_layer(layer: PromptLayer) -> PromptLayer:
    return an(PromptLayer, layer, "a prompt layer is a PromptLayer")


def a_slot(slot: PromptSlot | str) -> PromptSlot:
    return one_of(PromptSlot, slot, "prompt slot")


def some_contributions(given: tuple[PromptContribution, ...]) -> tuple[PromptContribution, ...]:
    for contribution in given:
        an(PromptContribution, contribution, "what a slot gets is a PromptContribution")
    return given


def _named(value: Any) -> str:
    """What came instead: the value itself where it is short and plain, else its class."""
    if value is None or value is True or value is False:
        return repr(value)
    name = type(value).__name__
    if isinstance(value, int | float):
        return f"the {name} {value!r}"
    if callable(value):
        return f"{getattr(value, '__name__', name)!r}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
