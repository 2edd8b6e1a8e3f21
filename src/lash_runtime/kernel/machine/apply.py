"""Carries out what a driver asked for.

Actions take effect in order; a `Start…` waits until the others are done, so that what it asks
for builds on them. One progress report follows whatever changed the history, before the request
or the end that builds on it.
"""

from collections.abc import Sequence
from typing import assert_never

from .actions import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    Emit,
    Finish,
    Log,
    ScheduleTurnLimitFinal,
    StartAction,
    StartCheckpoint,
    StartExec,
    StartLlm,
    StartTools,
)
from .context import TurnContext
from .driver import ProtocolDriverError
from .effects import LogEvent
from .states import (
    WaitingCheckpoint,
    WaitingExec,
    WaitingLlm,
    WaitingState,
    WaitingTools,
)


def apply_actions(
    turn: TurnContext, actions: Sequence[DriverAction], *, may_stay: bool = True
) -> None:
    """Apply a driver's answer; without a start or an end the state stays as it is, if it may.

    Raises `ProtocolDriverError` when `actions` break the rules; the turn is then unchanged.
    """
    start, finish = _ending(actions)
    if start is None and finish is None and not may_stay:
        raise ProtocolDriverError(
            f"{type(turn.config.driver).__name__} began iteration {turn.iteration} "
            "without starting anything"
        )
    history_changed = False
    for action in actions:
        match action:
            case Emit(event=event):
                turn.emit(event)
            case Log(name=name, data=data):
                turn.notices.append(LogEvent(name, data))
            case AppendEvents(records=records):
                turn.append_events(records)
                history_changed = True
            case AdvanceProtocolIteration():
                turn.iteration += 1
                history_changed = True
            case ScheduleTurnLimitFinal(message=message):
                turn.schedule_limit_final(message)
                history_changed = True
            case StartLlm() | StartTools() | StartExec() | StartCheckpoint() | Finish():
                continue
            case _:
                assert_never(action)
    if history_changed:
        turn.report_progress()
    if finish is not None:
        turn.finish(finish.outcome)
    elif start is not None:
        turn.wait_in(_waiting_for(start, turn.next_effect_id()))


def _ending(actions: Sequence[DriverAction]) -> tuple[StartAction | None, Finish | None]:
    start: StartAction | None = None
    finish: Finish | None = None
    for action in actions:
        if finish is not None:
            raise ProtocolDriverError(f"{type(action).__name__} follows Finish, which ends a list")
        match action:
            case StartLlm() | StartTools() | StartExec() | StartCheckpoint():
                if start is not None:
                    raise ProtocolDriverError(
                        f"{type(action).__name__} beside {type(start).__name__}: "
                        "a turn waits for one thing at a time"
                    )
                start = action
            case Finish():
                finish = action
            case _:
                continue
    if start is not None and finish is not None:
        raise ProtocolDriverError(f"{type(start).__name__} beside Finish: it is one or the other")
    return start, finish


def _waiting_for(start: StartAction, effect_id: int) -> WaitingState:
    match start:
        case StartLlm(request=request, driver_state=note):
            return WaitingLlm(effect_id, request, note)
        case StartTools(calls=calls):
            return WaitingTools(effect_id, calls)
        case StartExec(language=language, code=code, driver_state=note):
            return WaitingExec(effect_id, language, code, note)
        case StartCheckpoint(checkpoint=checkpoint, on_empty=on_empty):
            return WaitingCheckpoint(effect_id, checkpoint, on_empty)
        case _:
            assert_never(start)
