"""A turn in the middle, as plain data: what a machine needs to go on, here or elsewhere.

The request that a waiting state stands for is not part of it; the state makes it again. So a
restored machine asks once more for what it waited for, under the same id, and never for what
was answered.
"""

from functools import cache

from pydantic import TypeAdapter

from ...model.causes import TurnCause
from ...model.llm import LlmToolSpec
from ...model.messages import Message
from ...model.records import dataclass
from ...model.usage import TokenUsage
from ..read_model import EventRecord
from ..shared_sequence import SharedSequence
from .config import TurnMachineConfig
from .context import TurnContext
from .effects import Notice
from .states import MachineState


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineCheckpoint:
    """`messages` is the transcript, of which the turn added the last `added` ones.

    `notices` were not polled yet, `unreported` was in no progress yet.
    """

    turn_id: str
    run_offset: int
    state: MachineState
    notices: tuple[Notice, ...]
    messages: tuple[Message, ...]
    added: int
    unreported: tuple[EventRecord, ...]
    turn_causes: tuple[TurnCause, ...]
    iteration: int
    effects_asked: int
    checkpoint_messages: int
    usage: TokenUsage
    limit_final_shown: bool
    synced_iteration: int | None
    system_prompt: str
    tool_specs: tuple[LlmToolSpec, ...]

    def to_json(self) -> bytes:
        """The checkpoint as JSON, for a machine in another process. O(transcript)."""
        return _adapter().dump_json(self)

    @classmethod
    def from_json(cls, data: bytes) -> "MachineCheckpoint":
        """Raises `pydantic.ValidationError` for anything that is no checkpoint."""
        return _adapter().validate_json(data)


@cache
def _adapter() -> TypeAdapter[MachineCheckpoint]:
    return TypeAdapter(MachineCheckpoint)


def taken_checkpoint(turn: TurnContext) -> MachineCheckpoint:
    return MachineCheckpoint(
        turn_id=turn.turn_id,
        run_offset=turn.run_offset,
        state=turn.state,
        notices=tuple(turn.notices),
        messages=turn.messages[:],
        added=len(turn.added),
        unreported=tuple(turn.unreported),
        turn_causes=turn.turn_causes,
        iteration=turn.iteration,
        effects_asked=turn.effects_asked,
        checkpoint_messages=turn.checkpoint_messages,
        usage=turn.usage,
        limit_final_shown=turn.limit_final_shown,
        synced_iteration=turn.synced_iteration,
        system_prompt=turn.system_prompt,
        tool_specs=turn.tool_specs,
    )


def restored_context(config: TurnMachineConfig, checkpoint: MachineCheckpoint) -> TurnContext:
    before = len(checkpoint.messages) - checkpoint.added
    turn = TurnContext(
        config,
        turn_id=checkpoint.turn_id,
        messages=SharedSequence(checkpoint.messages[:before]),
        turn_causes=checkpoint.turn_causes,
        run_offset=checkpoint.run_offset,
    )
    turn.append_messages(checkpoint.messages[before:])
    turn.state = checkpoint.state
    turn.notices.extend(checkpoint.notices)
    turn.unreported.extend(checkpoint.unreported)
    turn.iteration = checkpoint.iteration
    turn.effects_asked = checkpoint.effects_asked
    turn.checkpoint_messages = checkpoint.checkpoint_messages
    turn.usage = checkpoint.usage
    turn.limit_final_shown = checkpoint.limit_final_shown
    turn.synced_iteration = checkpoint.synced_iteration
    turn.system_prompt = checkpoint.system_prompt
    turn.tool_specs = checkpoint.tool_specs
    return turn
