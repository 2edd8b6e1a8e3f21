"""How a session goes on in a new agent frame.

Rule 1: at most one frame is active, and it is the current one. What a frame was before it was
superseded stays as it was.
Rule 2: a frame that is current already, or has no name, is not opened. So opening it again, as
whoever repeats a step does, changes nothing.
"""

from collections.abc import Sequence

from ..model.causes import CausalRef
from ..model.frames import AgentFrameRecord, FrameStatus


def with_frame(
    frames: Sequence[AgentFrameRecord], current_frame_id: str, added: AgentFrameRecord
) -> tuple[AgentFrameRecord, ...]:
    """The frames once `added` has become the current one."""
    earlier = tuple(
        frame.model_copy(update={"status": FrameStatus.SUPERSEDED})
        if frame.frame_id == current_frame_id
        else frame
        for frame in frames
    )
    previous = added.previous_frame_id or current_frame_id or None
    return *earlier, added.model_copy(
        update={"previous_frame_id": previous, "status": FrameStatus.ACTIVE}
    )


def frame_to_open(
    current: AgentFrameRecord,
    frame_id: str,
    *,
    reason: str,
    created_at: str,
    caused_by: CausalRef | None = None,
) -> AgentFrameRecord | None:
    """The frame `frame_id`, which goes on with what `current` was assigned; `None` where there
    is nothing to open."""
    if not frame_id.strip() or frame_id == current.frame_id:
        return None
    return AgentFrameRecord(
        frame_id=frame_id,
        session_id=current.session_id,
        previous_frame_id=current.frame_id,
        reason=reason,
        caused_by=caused_by,
        created_at=created_at,
        assignment=current.assignment,
        protocol_turn_options=current.protocol_turn_options,
        execution_state_ref=current.execution_state_ref,
    )
