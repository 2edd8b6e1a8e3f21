"""What the machine knows of its turn, and the few ways in which that changes.

A turn's context is the only mutable thing in the machine. A driver reads it as a `MachineView`;
transitions change it through the methods of the second half, and through nothing else.

Rule 1: the transcript only grows, and its ids derive from the turn, so that a turn that runs
again makes the same messages.
Rule 2: a turn that ends leaves no call open, however it ends.
"""

from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from ...model.causes import TurnCause
from ...model.llm import LlmRequest, LlmRequestScope, LlmToolChoice
from ...model.messages import Message, PartKind
from ...model.nodes import ConversationRecord
from ...model.outcome import Stopped, StopReason, TurnOutcome, stopped
from ...model.session_events import (
    DoneEvent,
    ErrorEvent,
    LlmRequestEvent,
    SessionEvent,
    ToolCallEvent,
    TurnOutcomeEvent,
)
from ...model.tool_results import ToolCallOutput
from ...model.usage import NO_USAGE
from ..read_model import EventRecord
from ..resume_safety import close_open_calls
from ..shared_sequence import SharedSequence
from ..turn_messages import turn_message_id
from .config import TurnMachineConfig
from .effects import Done, EmitEvent, Notice, Progress
from .settings import MachineSettings
from .states import (
    MachineState,
    PreparingProtocol,
    TurnFinished,
    WaitingLlm,
    WaitingState,
    WaitingTools,
)


class TurnContext:
    """One turn as its machine sees it."""

    def __init__(
        self,
        config: TurnMachineConfig,
        *,
        turn_id: str,
        messages: SharedSequence[Message],
        turn_causes: Sequence[TurnCause],
        run_offset: int,
    ) -> None:
        self.config = config
        self.turn_id = turn_id
        self.run_offset = run_offset
        self.state: MachineState = PreparingProtocol()
        self.notices: deque[Notice] = deque()
        self.asked = False
        self.messages = messages
        self.turn_causes = tuple(turn_causes)
        self.iteration = run_offset
        self.usage = NO_USAGE
        self.limit_final_shown = False
        self.synced_iteration: int | None = None
        self.system_prompt = config.system_prompt
        self.tool_specs = config.tool_specs
        self.effects_asked = 0
        self.added: list[Message] = []
        self.unreported: list[EventRecord] = []
        self.checkpoint_messages = 0
        self._call_ids: set[str] = set()

    # What a driver may read.

    @property
    def settings(self) -> MachineSettings:
        return self.config.settings

    @property
    def used_call_ids(self) -> AbstractSet[str]:
        return self._call_ids

    @property
    def is_last_iteration(self) -> bool:
        limit = self.settings.max_turns
        return limit is not None and self.iteration + 1 >= self.run_offset + limit

    def message_id(self, role: str) -> str:
        return turn_message_id(self.turn_id, self.iteration, role)

    def llm_request(self, *, offer_tools: bool) -> LlmRequest:
        settings = self.settings
        chat = self.config.projection.render(self.messages, self.system_prompt, self.turn_causes)
        tools = self.tool_specs if offer_tools else ()
        return LlmRequest(
            model=settings.model,
            model_variant=settings.model_variant,
            generation=settings.generation,
            messages=chat.messages,
            attachments=chat.attachments,
            tools=tools,
            tool_choice=LlmToolChoice.AUTO if tools else LlmToolChoice.NONE,
            scope=LlmRequestScope(
                session_id=settings.session_id,
                agent_frame_id=settings.agent_frame_id,
                request_id=f"{settings.session_id}:turn:{self.turn_id}:llm:{self.iteration}",
            ),
        )

    # What a transition may do.

    @property
    def is_finished(self) -> bool:
        return isinstance(self.state, TurnFinished)

    def next_effect_id(self) -> int:
        """Effect ids count from 1 through the turn."""
        self.effects_asked += 1
        return self.effects_asked

    def wait_in(self, state: WaitingState) -> None:
        """Ask for what `state` waits for, once the notices so far were taken."""
        if isinstance(state, WaitingLlm):
            self.emit(
                LlmRequestEvent(
                    protocol_iteration=self.iteration,
                    message_count=len(state.request.messages),
                    tool_list=tuple(tool.name for tool in state.request.tools),
                )
            )
        self.state = state
        self.asked = False

    def emit(self, event: SessionEvent) -> None:
        self.notices.append(EmitEvent(event))

    def append_messages(self, messages: Sequence[Message]) -> None:
        """Put `messages` at the end of the transcript."""
        self.messages = self.messages.extend(messages)
        self.added.extend(messages)
        for message in messages:
            for part in message.parts:
                if part.kind is PartKind.TOOL_CALL and part.tool_call_id:
                    self._call_ids.add(part.tool_call_id)

    def append_events(self, records: Sequence[EventRecord]) -> None:
        """Record events; conversation records are messages of the transcript too."""
        self.unreported.extend(records)
        self.append_messages(
            [record.message for record in records if isinstance(record, ConversationRecord)]
        )

    def schedule_limit_final(self, message: Message) -> None:
        """Show `message` to the model; from now on the next answer is the last."""
        self.append_messages((message,))
        self.limit_final_shown = True

    def has_message(self, message_id: str) -> bool:
        """Whether this turn, its causes included, has a message of that id."""
        return any(message.id == message_id for message in self.added) or any(
            cause.id == message_id for cause in self.turn_causes
        )

    def report_progress(self) -> None:
        self.notices.append(Progress(self.messages, self._take_unreported(), self.iteration))

    def finish(self, outcome: TurnOutcome) -> None:
        """End the turn. Calls that are open are answered with what became of them."""
        self._close_calls(outcome)
        self.state = TurnFinished()
        self.asked = False
        self.emit(TurnOutcomeEvent(outcome))
        self.emit(DoneEvent())
        delta = self._take_unreported()
        self.notices.append(Done(self.messages, delta, self.iteration, outcome))

    def fail(self, error: ErrorEvent) -> None:
        """End the turn with `error` as its reason."""
        self.emit(error)
        self.finish(stopped(StopReason.RUNTIME_ERROR))

    def _close_calls(self, outcome: TurnOutcome) -> None:
        reason = _reason_of(outcome)
        if isinstance(self.state, WaitingTools):
            for call in self.state.calls:
                self.emit(
                    ToolCallEvent(
                        call_id=call.call_id,
                        name=call.tool_name,
                        args=call.args,
                        output=ToolCallOutput.cancelled(reason),
                        duration_ms=0,
                    )
                )
        closing = close_open_calls(self.added, reason)
        self.append_events([ConversationRecord.of(message) for message in closing])

    def _take_unreported(self) -> tuple[EventRecord, ...]:
        delta = tuple(self.unreported)
        self.unreported.clear()
        return delta


def _reason_of(outcome: TurnOutcome) -> str:
    match outcome:
        case Stopped(reason=StopReason.CANCELLED):
            return "The turn was cancelled before this call had finished."
        case _:
            return "The turn ended before this call had finished."
