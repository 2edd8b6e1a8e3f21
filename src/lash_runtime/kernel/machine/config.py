"""What one turn of the machine runs with.

`MachineSettings` is the part a driver may read; the driver itself and the projection come on
top in `TurnMachineConfig`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...model.llm import GenerationOptions, LlmToolSpec
from ...model.messages import Message, MessageRole, text_message
from ...model.policy import ProtocolTurnOptions
from ..projection import ChatProjection

if TYPE_CHECKING:
    from .driver import ProtocolDriver


def turn_limit_final_message(message_id: str, max_turns: int) -> Message:
    """Tells the model that its next answer ends the turn."""
    text = (
        f"This turn has used all of its {max_turns} rounds of work. "
        "Give your final answer now, without calling tools."
    )
    return text_message(message_id, MessageRole.SYSTEM, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSettings:
    """The facts of a turn that never change while it runs.

    `max_turns` limits the model calls that may use tools; `None` is no limit.
    `max_context_tokens` is what the model's prompt may hold, if that is known.
    """

    session_id: str
    model: str
    agent_frame_id: str = ""
    model_variant: str | None = None
    generation: GenerationOptions = GenerationOptions()
    max_context_tokens: int | None = None
    max_turns: int | None = None
    autonomous: bool = False
    protocol_turn_options: ProtocolTurnOptions = ProtocolTurnOptions()


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
