"""A turn that is asked for while it runs: the second caller attaches to the first one's turn.

It does not stand in line for that, is told the activities that are still known, and gets the very
result of the first. Who has to decide whether two requests are the same turn is the store; here
it is asked only where they do not look the same.
"""

from ..ports.store_errors import TurnContentConflict
from .faults import fault_of_commit
from .lash_runtime import LashRuntime
from .turn.normalise import InvalidTurnInput, normalise_input
from .turn.request import TurnRequest, content_hash
from .turn.result import TurnResult
from .turn.sinks import TurnActivitySink, emit_contained
from .turn_reader import TurnReader
from .turn_registry import LiveTurn
from .turn_rows import find_row, show


async def is_same_turn(runtime: LashRuntime, request: TurnRequest, first: TurnRequest) -> bool:
    """Whether `request` asks for the turn that `first` has asked for under the same id.

    Where the answer is no, it may still be found to be the same once it is its turn. Raises the
    fault `turn_content_conflict` where the turn has been accepted with other content.
    """
    if _looks_like(request, first):
        return True
    row = await find_row(runtime, request.turn_id)
    if row is None:
        return False
    try:
        said = await normalise_input(request.input, runtime.attachments())
    except InvalidTurnInput:
        return False
    if row.content_hash == await content_hash(said, request.overrides.stored()):
        return True
    conflict = TurnContentConflict(session_id=row.session_id, turn_id=row.turn_id)
    raise fault_of_commit(conflict, row.session_id) from conflict


async def result_of_first(
    runtime: LashRuntime, first: LiveTurn, reader: TurnReader, sink: TurnActivitySink | None
) -> TurnResult | None:
    """What the first caller's turn comes to; `sink` is told what `reader` reads of it.

    `None` where it comes to nothing: then the turn is to be asked for again, and either the store
    knows what became of it, or it has not been run.
    """
    try:
        while sink is not None and (activity := await reader.next()) is not None:
            await emit_contained(sink, activity)
    finally:
        await reader.aclose()
    await first.settled()
    try:
        result = first.outcome()
    except Exception:
        return None
    await show(runtime, result)
    return result


def _looks_like(request: TurnRequest, first: TurnRequest) -> bool:
    same_words = (
        request.input.model_copy(update={"trace_turn_id": first.input.trace_turn_id}) == first.input
    )
    return same_words and request.overrides.stored() == first.overrides.stored()
