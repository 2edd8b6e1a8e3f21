"""What the store knows of a turn that this core does not run, and what came of it.

Whoever asks holds no lane: nothing here keeps another turn from running, and the state that a
session shows is moved on only while nobody is at work in it.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ..ports.signals import SignalFilter, SignalKind
from ..ports.store_errors import StoreError
from ..ports.turn_ledger import TurnRow, TurnState
from ..ports.waiting import wait_until
from .faults import RuntimeFault, SessionBusy, WiringMissing, fault_of_refresh
from .lash_runtime import LashRuntime
from .state import RuntimeSessionState
from .turn.finishing import finish_turn
from .turn.result import TurnResult
from .turn.settled import fault_of_replaced_history, result_of_row

FIRST_PAUSE_S: Final = 0.025
LONGEST_PAUSE_S: Final = 1.0
"""Until the owner of a turn is first asked whether it lives, and at least until it is again."""


async def find_row(runtime: LashRuntime, turn_id: str) -> TurnRow | None:
    """The row of that turn; `None` if none was accepted, or nothing is stored.

    Raises `RuntimeFault`, such as `SessionIsDeleted`, when the store cannot tell.
    """
    store = runtime.store
    if store is None:
        return None
    try:
        return await store.load_turn(runtime.session_id, turn_id)
    except StoreError as error:
        if runtime.env.tasks.closed:
            raise _core_closed() from error
        raise fault_of_refresh(error, runtime.session_id) from error


async def settled_row(
    runtime: LashRuntime, turn_id: str, *, or_else: Callable[[], bool]
) -> TurnRow | None:
    """Wait until the turn is settled, by whomever, or `or_else` holds; its row, if there is one.

    Cancelling the wait changes nothing about the turn. Raises the fault `core_closed` when the
    core is closed meanwhile, and as `find_row` does.
    """
    row = await find_row(runtime, turn_id)
    if row is None or row.state.is_settled or or_else():
        return row
    # In a task of the core, which ends the wait when it is closed.
    wait = runtime.env.tasks.start(
        _wait_for_settlement(runtime, row, or_else), name=f"lash-attached-{turn_id}"
    )
    try:
        await wait.settled()
    finally:
        wait.interrupt()
    if wait.interrupted:
        raise _core_closed()
    return wait.result()


async def stored_result(runtime: LashRuntime, row: TurnRow) -> TurnResult:
    """What a caller gets who comes to a settled turn by its id. Raises what it has failed with.

    Raises the fault `turn_of_replaced_history` where telling it would show a history that this
    session is to replace.
    """
    if runtime.replaces_history:
        raise fault_of_replaced_history(row.turn_id)
    return result_of_row(row, await _state_with(runtime, row))


async def show(runtime: LashRuntime, result: TurnResult) -> None:
    """Have this handle show a turn that was run through another one. While somebody is at work in
    the session it waits for the handle's next turn; and that it cannot be read right now costs
    nobody the result."""
    behind = runtime.state.graph.leaf_node_id != result.state.graph.leaf_node_id
    if behind and not runtime.lane.at_work:
        with suppress(RuntimeFault):
            await _move_on(runtime)


async def _wait_for_settlement(
    runtime: LashRuntime, row: TurnRow, or_else: Callable[[], bool]
) -> TurnRow | None:
    clock = runtime.env.clock
    begun = clock.now()
    # Not at once: most turns that are found running are about to end, and whoever ran one wants
    # the lane for the next. Later at growing intervals, for the same reason.
    owner_due = begun + FIRST_PAUSE_S
    longest_s = runtime.env.keeper.timings.renew_interval_ms / 1000
    found: TurnRow | None = row

    async def over() -> bool:
        nonlocal found
        found = await find_row(runtime, row.turn_id)
        return found is None or found.state.is_settled or or_else()

    settled = SignalFilter.of(
        SignalKind.TURN_SETTLED, session_id=row.session_id, turn_id=row.turn_id
    )
    while not await wait_until(over, runtime.env.signals, settled, clock=clock, deadline=owner_due):
        now = clock.now()
        owner_due = now + min(max(now - begun, LONGEST_PAUSE_S), longest_s)
        await _see_to_it_if_abandoned(runtime, row if found is None else found)
    return found


async def _see_to_it_if_abandoned(runtime: LashRuntime, row: TurnRow) -> None:
    """Finish the turn, or close it as interrupted, if its owner is gone; then nobody else may ever
    do so."""
    if row.state is not TurnState.RUNNING or runtime.lane.at_work:
        return
    if runtime.finishes(row):
        if runtime.env.bell.heard is not None:
            # In a task of the core, so that nobody who waits has to go on waiting for it.
            runtime.env.bell.ring()
            return
        with suppress(SessionBusy, WiringMissing):
            await finish_turn(runtime, row.turn_id)
        return
    async with runtime.lane.turn():
        with suppress(SessionBusy):
            await runtime.closer.close_unfinished()


async def _state_with(runtime: LashRuntime, row: TurnRow) -> RuntimeSessionState:
    """A state that has the words of the turn."""
    if not runtime.lane.at_work:
        await _move_on(runtime)
        return runtime.state
    # What the turn that runs has stored of itself so far is not yet for others to see.
    ids = () if row.result is None else row.result.message_ids
    if ids and runtime.state.graph.read_model().has_message(ids[-1]):
        return runtime.state
    return await runtime.load()


async def _move_on(runtime: LashRuntime) -> None:
    async with runtime.lane.glance():
        await runtime.refresh(await runtime.head())


def _core_closed() -> RuntimeFault:
    return RuntimeFault("core_closed", "this core is closed: ask again from another one")
