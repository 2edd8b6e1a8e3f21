"""A turn machine driven by hand: no event loop, no provider, only answers."""

from collections.abc import Callable, Sequence
from typing import Any

from lash_runtime.kernel.machine.config import TurnMachineConfig
from lash_runtime.kernel.machine.driver import ProtocolDriver
from lash_runtime.kernel.machine.effects import (
    CallLlm,
    CallTools,
    Checkpoint,
    CheckpointDelivered,
    Done,
    EmitEvent,
    EnvironmentSynced,
    ExecCode,
    ExecCompleted,
    ExecResponse,
    ExecutionEnvironment,
    LlmCompleted,
    Notice,
    Progress,
    Request,
    Response,
    SyncExecutionEnvironment,
    ToolsCompleted,
)
from lash_runtime.kernel.machine.machine import TurnMachine
from lash_runtime.kernel.machine.settings import MachineSettings
from lash_runtime.kernel.shared_sequence import SharedSequence
from lash_runtime.kernel.turn_messages import opening_messages
from lash_runtime.model.llm import (
    LlmCallError,
    LlmOutputPart,
    LlmResponse,
    LlmTerminalReason,
    TextOutput,
    ToolCallOutputPart,
)
from lash_runtime.model.messages import Message
from lash_runtime.model.session_events import SessionEvent
from lash_runtime.model.tool_results import (
    CompletedToolCall,
    PendingToolCall,
    ToolCallOutput,
    ToolFailure,
    ToolFailureClass,
)
from lash_runtime.model.tool_values import model_return
from lash_runtime.model.turn_input import TurnInput
from lash_runtime.model.usage import TokenUsage
from lash_runtime.protocols.standard import StandardDriver

SETTINGS = MachineSettings(session_id="s", model="m", agent_frame_id="f")


class HandDrivenTurn:
    """Polls a machine, keeps its notices, and answers its requests when told to."""

    def __init__(
        self,
        *,
        settings: MachineSettings = SETTINGS,
        driver: ProtocolDriver | None = None,
        words: str = "hello",
        history: Sequence[Message] = (),
        machine: TurnMachine | None = None,
        turn_causes: Sequence[Any] = (),
        run_offset: int = 0,
        **config: Any,
    ) -> None:
        self.config = TurnMachineConfig(
            settings=settings, driver=driver or StandardDriver(), **config
        )
        opening = opening_messages("t", TurnInput.text(words), turn_causes)
        self.machine = machine or TurnMachine(
            self.config,
            turn_id="t",
            messages=SharedSequence([*history, *opening]),
            turn_causes=turn_causes,
            run_offset=run_offset,
        )
        self.notices: list[Notice] = []

    def request(self) -> Request | None:
        """The next request; `None` when the turn is over or an answer is due."""
        while (effect := self.machine.poll_effect()) is not None:
            if isinstance(
                effect, CallLlm | CallTools | Checkpoint | ExecCode | SyncExecutionEnvironment
            ):
                return effect
            self.notices.append(effect)
        return None

    def answer(self, response: Response) -> Request | None:
        self.machine.handle_response(response)
        return self.request()

    def model(
        self, answer: LlmResponse | LlmCallError | str, *, streamed: bool = True
    ) -> Request | None:
        """Answer the model call that is due."""
        effect = self.machine.state
        if isinstance(answer, str):
            answer = says(answer)
        return self.answer(LlmCompleted(effect.effect_id, answer, streamed))

    def tools(self, *outputs: ToolCallOutput) -> Request | None:
        """Answer the batch that is due, in call order."""
        state = self.machine.state
        results = tuple(
            completed(call, output) for call, output in zip(state.calls, outputs, strict=True)
        )
        return self.answer(ToolsCompleted(state.effect_id, results))

    def checkpoint(self, **delivered: Any) -> Request | None:
        return self.answer(CheckpointDelivered(self.machine.state.effect_id, **delivered))

    def synced(self, result: ExecutionEnvironment | str | None = None) -> Request | None:
        return self.answer(EnvironmentSynced(self.machine.state.effect_id, result))

    def executed(self, result: ExecResponse | str) -> Request | None:
        return self.answer(ExecCompleted(self.machine.state.effect_id, result))

    def play(self, respond: Callable[[Request], Response]) -> None:
        """Answer every request until nothing comes any more."""
        while (effect := self.request()) is not None:
            self.machine.handle_response(respond(effect))

    @property
    def events(self) -> list[SessionEvent]:
        return [notice.event for notice in self.notices if isinstance(notice, EmitEvent)]

    def events_of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def progress(self) -> list[Progress]:
        return [notice for notice in self.notices if isinstance(notice, Progress)]

    @property
    def done(self) -> Done:
        assert isinstance(self.notices[-1], Done)
        return self.notices[-1]

    @property
    def added(self) -> list[Message]:
        """The messages after the user's own, transient ones included."""
        ids = [message.id for message in self.machine.messages]
        return list(self.machine.messages[ids.index("m:t:user") + 1 :])


def says(
    *parts: str | LlmOutputPart,
    reason: LlmTerminalReason = LlmTerminalReason.STOP,
    usage: TokenUsage | None = None,
) -> LlmResponse:
    """A response of these parts."""
    outputs = tuple(TextOutput(part) if isinstance(part, str) else part for part in parts)
    text = "".join(part.text for part in outputs if isinstance(part, TextOutput))
    return LlmResponse(
        full_text=text, parts=outputs, terminal_reason=reason, usage=usage or TokenUsage()
    )


def call(call_id: str, name: str = "look", input_json: str = "{}") -> ToolCallOutputPart:
    return ToolCallOutputPart(call_id, name, input_json)


def completed(pending: PendingToolCall, output: ToolCallOutput) -> CompletedToolCall:
    return CompletedToolCall(
        call_id=pending.call_id,
        tool_name=pending.tool_name,
        args=pending.args,
        output=output,
        model_return=model_return(pending.call_id, pending.tool_name, output),
        duration_ms=3,
    )


OK = ToolCallOutput.success("fine")


def broken(message: str = "it broke") -> ToolCallOutput:
    failure = ToolFailure(class_=ToolFailureClass.EXECUTION, code="tool_error", message=message)
    return ToolCallOutput.failure(failure)
