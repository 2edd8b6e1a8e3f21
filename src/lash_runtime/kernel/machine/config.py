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
