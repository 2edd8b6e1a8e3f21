"""The seam between the machine and a protocol: what a driver is shown, and what it answers.

A driver is pure: the same view and the same response give the same actions. It keeps nothing
between two calls; what it must remember goes into `driver_state` or into the history.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

from ...model.causes import TurnCause
from ...model.llm import LlmRequest, LlmResponse, LlmToolSpec
from ...model.messages import Message
from ...model.tool_results import CompletedToolCall
from ..shared_sequence import SharedSequence
from .actions import DriverAction
from .effects import ExecResponse
from .settings import MachineSettings


class ProtocolDriverError(Exception):
    """A driver broke the rules of `DriverAction`. This is a bug in the driver."""


class MachineView(Protocol):
    """What a driver may read of the turn it drives."""

    @property
    def settings(self) -> MachineSettings: ...

    @property
    def iteration(self) -> int:
        """The model call that is due or was just answered; counts from the turn's offset."""
        ...

    @property
    def messages(self) -> SharedSequence[Message]:
        """The transcript: what the turn began with, and what it added."""
        ...

    @property
    def system_prompt(self) -> str: ...

    @property
    def tool_specs(self) -> tuple[LlmToolSpec, ...]: ...

    @property
    def turn_causes(self) -> tuple[TurnCause, ...]: ...

    @property
    def used_call_ids(self) -> AbstractSet[str]:
        """The ids of all tool calls that this turn has added to the history."""
        ...

    @property
    def is_last_iteration(self) -> bool:
        """Whether the turn may have no iteration after the current one."""
        ...

    def message_id(self, role: str) -> str:
        """The id of this iteration's message in that role; the same in every replay."""
        ...

    def llm_request(self, *, offer_tools: bool) -> LlmRequest:
        """The model call of this iteration over the whole transcript."""
        ...


class ProtocolDriver(Protocol):
    """Decides what a turn does next. Each method must start something, or finish the turn,
    or leave it to the machine to prepare the next iteration."""

    def prepare_protocol_iteration(self, view: MachineView) -> Sequence[DriverAction]:
        """Begin an iteration. Must start something or finish: anything else would spin."""
        ...

    def handle_llm_response(
        self, view: MachineView, response: LlmResponse, text_streamed: bool, driver_state: Any
    ) -> Sequence[DriverAction]:
        """Go on from a response that ended in `stop`, `tool_use` or `unknown`."""
        ...

    def handle_tool_results(
        self, view: MachineView, results: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        """Go on from the results of a batch: one for each call, in call order."""
        ...

    def handle_exec_result(
        self, view: MachineView, result: ExecResponse | str, driver_state: Any
    ) -> Sequence[DriverAction]:
        """Go on from executed code; a string says why it could not be executed."""
        ...
