"""What a driver may and may not ask for."""

from collections.abc import Sequence

import pytest

from kernel.driving import HandDrivenTurn
from lash_runtime.kernel.machine.actions import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    Emit,
    Finish,
    Log,
    ScheduleTurnLimitFinal,
    StartCheckpoint,
    StartExec,
    StartLlm,
)
from lash_runtime.kernel.machine.driver import ProtocolDriverError
from lash_runtime.kernel.machine.effects import (
    CallLlm,
    EmitEvent,
    ExecCode,
    ExecResponse,
    LogEvent,
    Progress,
)
from lash_runtime.kernel.machine.states import ContinueTurn
from lash_runtime.model.checkpoints import CheckpointKind
from lash_runtime.model.messages import MessageRole, text_message
from lash_runtime.model.nodes import ConversationRecord, ProtocolEvent
from lash_runtime.model.outcome import answered
from lash_runtime.model.session_events import LlmResponseEvent, TextDeltaEvent

CHECKPOINT = StartCheckpoint(CheckpointKind.AFTER_WORK, ContinueTurn())
FINISH = Finish(answered("done"))
NOTE = text_message("note", MessageRole.SYSTEM, "note")


class ScriptedDriver:
    """Gives the same actions at the start of every iteration, and others after an answer."""

    def __init__(
        self, prepare: Sequence[DriverAction] | None = None, react: Sequence[DriverAction] = ()
    ) -> None:
        self.prepare = prepare
        self.react = react
        self.seen: list[object] = []

    def prepare_protocol_iteration(self, view):
        if self.prepare is not None:
            return self.prepare
        return (StartLlm(view.llm_request(offer_tools=False), {"note": view.iteration}),)

    def handle_llm_response(self, view, response, text_streamed, driver_state):
        self.seen.append((response.full_text, text_streamed, driver_state))
        return self.react

    def handle_tool_results(self, view, results):
        return self.react

    def handle_exec_result(self, view, result, driver_state):
        self.seen.append((result, driver_state))
        return self.react


@pytest.mark.parametrize(
    "actions",
    [
        (CHECKPOINT, CHECKPOINT),
        (CHECKPOINT, FINISH),
        (FINISH, Emit(TextDeltaEvent("more"))),
        (FINISH, FINISH),
    ],
)
def test_a_driver_that_wants_two_things_at_a_time_is_refused(
    actions: Sequence[DriverAction],
) -> None:
    """Guessing which of the two was meant would hide the bug in somebody's history."""
    turn = HandDrivenTurn(driver=ScriptedDriver(prepare=actions))
    with pytest.raises(ProtocolDriverError):
        turn.request()
    assert turn.notices == []


@pytest.mark.parametrize("actions", [(), (Emit(TextDeltaEvent("x")), AdvanceProtocolIteration())])
def test_an_iteration_that_starts_nothing_is_refused(actions: Sequence[DriverAction]) -> None:
    """It would begin again at once, and for ever."""
    turn = HandDrivenTurn(driver=ScriptedDriver(prepare=actions))
    with pytest.raises(ProtocolDriverError, match="ScriptedDriver"):
        turn.request()


def test_an_answer_that_starts_nothing_leads_to_the_next_iteration() -> None:
    """A driver that only notes something leaves the rest to the machine."""
    driver = ScriptedDriver(react=(AdvanceProtocolIteration(),))
    turn = HandDrivenTurn(driver=driver)
    turn.request()
    again = turn.model("hm")
    assert isinstance(again, CallLlm)
    assert again.request.scope.request_id == "s:turn:t:llm:1"


def test_a_driver_gets_its_own_note_back_with_the_answer() -> None:
    """A driver keeps nothing itself, or a restored turn would not know what it was doing."""
    driver = ScriptedDriver(react=(FINISH,))
    turn = HandDrivenTurn(driver=driver)
    turn.request()
    turn.model("hm", streamed=False)
    assert driver.seen == [("hm", False, {"note": 0})]


def test_actions_take_effect_in_order_and_the_start_comes_last() -> None:
    """What is asked for must be able to build on what was appended, wherever it stands."""
    protocol_event = ProtocolEvent(plugin_id="p", payload=1)
    driver = ScriptedDriver(
        react=(
            CHECKPOINT,
            Emit(LlmResponseEvent(0, "a")),
            Log("noticed", {"n": 1}),
            AppendEvents((protocol_event, ConversationRecord.of(NOTE))),
            Emit(TextDeltaEvent("b")),
        )
    )
    turn = HandDrivenTurn(driver=driver)
    turn.request()
    turn.notices.clear()
    turn.model("hm")
    assert turn.notices[1:-1] == [
        EmitEvent(LlmResponseEvent(0, "a")),
        LogEvent("noticed", {"n": 1}),
        EmitEvent(TextDeltaEvent("b")),
    ]
    progress = turn.notices[-1]
    assert isinstance(progress, Progress)
    assert progress.event_delta == (protocol_event, ConversationRecord.of(NOTE))
    assert [message.id for message in progress.messages] == ["m:t:user", "note"]


def test_actions_that_change_no_history_report_no_progress() -> None:
    """Each progress may become a write to disk."""
    turn = HandDrivenTurn(driver=ScriptedDriver(react=(Emit(TextDeltaEvent("x")), CHECKPOINT)))
    turn.request()
    turn.model("hm")
    assert turn.progress == []


def test_a_driver_can_announce_the_last_answer_itself() -> None:
    """The message is shown to the model once, and the machine knows that it was."""
    driver = ScriptedDriver(react=(ScheduleTurnLimitFinal(NOTE), AdvanceProtocolIteration()))
    turn = HandDrivenTurn(driver=driver)
    turn.request()
    again = turn.model("hm")
    assert again.request.messages[-1].blocks[0].text == "Runtime note:\nnote"
    assert turn.machine.checkpoint().limit_final_shown


@pytest.mark.parametrize("result", [ExecResponse(output="2"), "no interpreter"])
def test_executed_code_comes_back_to_the_driver(result: ExecResponse | str) -> None:
    """Protocols that run code rely on the same loop as those that call tools."""
    driver = ScriptedDriver(prepare=(StartExec("python", "1 + 1", {"cell": 1}),), react=(FINISH,))
    turn = HandDrivenTurn(driver=driver)
    assert turn.request() == ExecCode(1, "python", "1 + 1")
    turn.executed(result)
    assert driver.seen == [(result, {"cell": 1})]
    assert turn.done.outcome == answered("done")
