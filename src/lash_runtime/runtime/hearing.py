"""What a core does about the signals of its storage, while it is open."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..ports.signals import SignalFilter, SignalKind, StoreSignals
from ..ports.storage import SessionStoreCreateRequest
from ..ports.store_errors import StoreError
from .environment import RuntimeEnvironment

log = logging.getLogger(__name__)


async def hear_cancels(env: RuntimeEnvironment, signals: StoreSignals) -> None:
    """Stop the turns of this core that another process has asked to cancel, as soon as that is
    known. Ends with the storage."""
    wanted = SignalFilter.of(SignalKind.TURN_CANCEL_REQUESTED)
    await _on_each(signals, wanted, lambda: _stop_what_is_asked_for(env))


async def hear_of_left_turns(signals: StoreSignals, look: Callable[[], None]) -> None:
    """Have unfinished turns looked for when one was left. Ends with the storage."""

    async def look_now() -> None:
        look()

    await _on_each(signals, SignalFilter.of(SignalKind.TURN_LEFT), look_now)


async def hear_of_accepted_turns(
    signals: StoreSignals, look: Callable[[], None], *, lease_ttl_ms: int
) -> None:
    """Have unfinished turns looked for when the lease of one that was accepted would have lapsed,
    in case that its owner dies. Ends with the storage."""

    async def look_later() -> None:
        # By the event loop's time: a look too many costs a read, and nothing else.
        await asyncio.sleep(lease_ttl_ms / 1000)
        look()

    await _on_each(signals, SignalFilter.of(SignalKind.TURN_ACCEPTED), look_later)


async def _on_each(
    signals: StoreSignals, wanted: SignalFilter, react: Callable[[], Awaitable[None]]
) -> None:
    with signals.listen(wanted) as heard:
        while await heard.wait():
            await react()


async def _stop_what_is_asked_for(env: RuntimeEnvironment) -> None:
    stores = env.session_stores
    if stores is None:
        return
    for session_id, turn_id in env.turns.ids():
        try:
            store = await stores.open_existing_store(
                SessionStoreCreateRequest(session_id=session_id)
            )
            row = None if store is None else await store.load_turn(session_id, turn_id)
        except StoreError as error:
            log.warning("turn %r could not be looked at: %s", turn_id, error)
            continue
        if row is not None and row.cancel_request is not None and not row.state.is_settled:
            env.turns.ask(session_id, turn_id, row.cancel_request)
