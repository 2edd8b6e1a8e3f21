"""All that one turn of the machine is built from."""

from collections.abc import Callable
from dataclasses import field

from ...model.llm import LlmToolSpec
from ...model.messages import Message, MessageRole, text_message
from ...model.records import dataclass
from ..projection import ChatProjection
from .driver import ProtocolDriver
from .settings import MachineSettings


def turn_limit_final_message(message_id: str, max_turns: int) -> Message:
    """Tells the model that its next answer ends the turn."""
    text = (
        f"This turn has used all of its {max_turns} rounds of work. "
        "Give your final answer now, without calling tools."
    )
    return text_message(message_id, MessageRole.SYSTEM, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnMachineConfig:
    """Everything a machine is built from, apart from the turn itself.

    `projection` belongs to the session: it remembers what earlier turns have rendered. With
    `sync_execution_environment` the machine asks for prompt and tools again before each
    iteration after the first; without it `system_prompt` and `tool_specs` hold for the turn.
    """

    settings: MachineSettings
    driver: ProtocolDriver
    system_prompt: str = ""
    tool_specs: tuple[LlmToolSpec, ...] = ()
    projection: ChatProjection = field(default_factory=ChatProjection)
    sync_execution_environment: bool = False
    turn_limit_final_message: Callable[[str, int], Message] = turn_limit_final_message
