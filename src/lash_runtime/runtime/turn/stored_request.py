"""A turn's request, back from its row: what was asked, and whether this core can still do it."""

from collections.abc import Callable

from ...model.prompt import PromptLayer
from ...model.records import replace
from ...ports.turn_ledger import RequiredWiring, TurnRow
from ..environment import RuntimeEnvironment
from ..faults import RuntimeFault, WiringMissing
from ..lash_runtime import LashRuntime
from .request import TurnOverrides, TurnRequest


def request_of_row(row: TurnRow) -> TurnRequest:
    """What the caller of an unfinished turn has asked for. Its provider is still to be found."""
    if row.input is None:
        raise RuntimeFault("turn_not_available", f"turn {row.turn_id!r} is over: its input is gone")
    options = row.options
    return TurnRequest(
        turn_id=row.turn_id,
        input=row.input,
        overrides=TurnOverrides(
            model=options.model,
            prompt=options.prompt or PromptLayer.defaults(),
            max_turns=options.max_turns,
        ),
    )


def with_what_was_stored(request: TurnRequest, row: TurnRow, runtime: LashRuntime) -> TurnRequest:
    """`request` as it was accepted: the stored words, and the provider that was named.

    Raises `WiringMissing` where this session lacks what the turn needs.
    """
    stored = request_of_row(row)
    given = request.provider is not None
    missing = missing_wiring(
        row.required_wiring, runtime.env, lambda kind: given or runtime.has_provider(kind)
    )
    if missing:
        raise WiringMissing(row.session_id, row.turn_id, missing)
    provider = request.provider
    if provider is None and row.options.provider_id is not None:
        provider = runtime.provider_for(row.options.provider_id)
    return replace(request, input=stored.input, overrides=stored.overrides, provider=provider)


def missing_wiring(
    required: RequiredWiring, env: RuntimeEnvironment, has_provider: Callable[[str], bool]
) -> tuple[str, ...]:
    """What a turn needs and is not there, in words."""
    missing = []
    if required.protocol != env.protocol.id:
        missing.append(f"protocol {required.protocol!r}")
    if required.provider_id and not has_provider(required.provider_id):
        missing.append(f"provider {required.provider_id!r}")
    known = frozenset(env.catalog.tool_names())
    missing += [f"tool {name!r}" for name in required.tool_names if name not in known]
    return tuple(missing)
