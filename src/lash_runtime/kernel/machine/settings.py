"""The facts of a turn: the part of its configuration that a protocol driver may read."""

from ...model.llm import GenerationOptions
from ...model.policy import ProtocolTurnOptions
from ...model.records import dataclass


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
    protocol_turn_options: ProtocolTurnOptions = ProtocolTurnOptions.defaults()
