"""Finishes a turn that nobody asks for any more, in the name of whoever did."""

from collections.abc import Callable

from ...ports.leases import SessionExecutionLease
from ...ports.store_errors import StoreError
from ...ports.turn_ledger import TurnRow
from ..faults import fault_of_commit
from ..lash_runtime import LashRuntime
from .acceptance import TurnToFinish
from .request import TurnRequest
from .result import TurnResult
from .run import TurnRun
from .stored_request import request_of_row


async def finish_turn(
    runtime: LashRuntime,
    turn_id: str,
    *,
    request: TurnRequest | None = None,
    begins: Callable[[], None] = lambda: None,
) -> TurnResult | None:
    """Take the session's lane and finish the turn from its journal. `None` when it is over, or
    not to be finished.

    `request` is the turn's, if somebody knows it by that already; else it is made here, and
    whoever cancels the turn by its id reaches it. `begins` is called when the lane is taken.

    Raises `SessionBusy` when a live owner holds the lane, and as `TurnRun.finish`. Interrupting
    leaves the turn as it is then, and gives the lane back.
    """
    async with runtime.lane.turn():
        closer = runtime.closer
        try:
            lease = await closer.take_lane(turn_id)
        except StoreError as error:
            raise fault_of_commit(error, runtime.session_id) from error
        row = await _waiting_row(runtime, turn_id, lease)
        if row is None:
            return None
        begins()
        unfinished = TurnToFinish(lease=lease, row=row)
        if request is not None:
            return await TurnRun(runtime, request, None).finish(unfinished)
        request, turns = request_of_row(row), runtime.env.turns
        turns.recovering(runtime.session_id, turn_id, request.cancel)
        try:
            return await TurnRun(runtime, request, None).finish(unfinished)
        finally:
            turns.recovered(runtime.session_id, turn_id)


async def _waiting_row(
    runtime: LashRuntime, turn_id: str, lease: SessionExecutionLease
) -> TurnRow | None:
    """The row, if it is to be finished; else the lane is given back."""
    waits = False
    try:
        row = await runtime.require_store("finish a turn").load_turn(runtime.session_id, turn_id)
        waits = row is not None and row.state.is_started and runtime.finishes(row)
        return row if waits else None
    except StoreError as error:
        raise fault_of_commit(error, runtime.session_id) from error
    finally:
        if not waits:
            await runtime.give_back(lease.fence())
