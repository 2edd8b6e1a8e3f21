"""Agent frames: which part of a session's history the model sees, and with what policy."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from ._value import Value, omitted_when_empty, omitted_when_none
from .causes import CausalRef
from .policy import ProtocolTurnOptions, SessionPolicy
from .tools import ToolAccess

REASON_INITIAL = "initial"
REASON_CONTINUE_AS = "continue_as"
REASON_COMPACTION = "compaction"


def initial_frame_id(session_id: str) -> str:
    """The frame that every session begins in."""
    return f"{session_id}:frame:initial"


class FrameStatus(StrEnum):
    ACTIVE = "active"
    SUPERSEDED = "superseded"


class AgentFrameAssignment(Value):
    """What a frame runs with."""

    policy: SessionPolicy = SessionPolicy.defaults()
    plugin_options: Mapping[str, Any] = omitted_when_empty({})
    plugin_source: str = "current_session_fork"
    tool_access: ToolAccess = Field(
        default=ToolAccess.defaults(), exclude_if=lambda access: access == ToolAccess()
    )
    subagent: Any = omitted_when_none()
    usage_source: str | None = omitted_when_none()


class AgentFrameRecord(Value):
    """A context of the session. The model sees the messages of the current frame alone.

    `execution_state_ref` names what the frame was left with. `execution_state_snapshot` is that
    very state where a read gives it, on the current frame; it is never part of the record.
    """

    frame_id: str
    session_id: str
    previous_frame_id: str | None = omitted_when_none()
    status: FrameStatus = FrameStatus.ACTIVE
    reason: str = REASON_INITIAL
    caused_by: CausalRef | None = omitted_when_none()
    created_at: str
    assignment: AgentFrameAssignment
    protocol_turn_options: ProtocolTurnOptions = Field(
        default=ProtocolTurnOptions.defaults(), exclude_if=ProtocolTurnOptions.is_empty
    )
    execution_state_ref: str | None = omitted_when_none()
    execution_state_snapshot: bytes | None = Field(default=None, exclude=True, repr=False)
