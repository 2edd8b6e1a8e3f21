"""Durable LLM agents inside your own asyncio program."""

from .core import LashCore
from .core_builder import LashCoreBuilder
from .errors import (
    AttachmentFailure,
    CoreClosed,
    DurableStorePeerRequired,
    EmbedError,
    InvalidConfiguration,
    InvalidSessionId,
    MissingAttachmentStore,
    MissingEffectHost,
    MissingModelSpec,
    MissingProtocolPlugin,
    RuntimeFailure,
    SessionClosed,
    SessionDeleted,
    SessionError,
    SessionNotDurable,
    SessionStillInUse,
    StoreFailure,
    StoreSessionMismatch,
    WiringError,
)
from .kernel.read_view import SessionReadView
from .model.activity import (
    AssistantProseDelta,
    ErrorReported,
    FinalValue,
    ModelRequestStarted,
    QueuedInputAccepted,
    QueuedMessagesCommitted,
    QueuedWorkStarted,
    ReasoningTextDelta,
    RetryScheduled,
    RuntimeDiagnostic,
    ToolCallCompleted,
    ToolCallStarted,
    ToolValueProduced,
    TurnActivity,
    TurnEvent,
    UsageReported,
)
from .model.attachments import AttachmentRef
from .model.images import Image
from .model.messages import Message, MessageRole, Part, PartKind
from .model.nodes import SessionNodeRecord
from .model.outcome import (
    AgentFrameSwitch,
    AssistantOutput,
    Finished,
    OutputState,
    Stopped,
    StopReason,
    TurnIssue,
    TurnOutcome,
)
from .model.policy import ModelLimits, ModelSpec, SessionPolicy, SessionSpec
from .model.prompt import PromptContribution, PromptLayer, PromptSlot, PromptTemplate
from .model.tool_results import ToolCallOutput, ToolCallRecord, ToolFailure, ToolFailureClass
from .model.turn_input import ImageBlob, ImageRefItem, TextItem, TurnInput
from .model.usage import SessionUsageReport, TokenUsage
from .ports.attachments import StoredAttachment
from .ports.cancel import CancelToken
from .ports.leases import LeaseTimings
from .ports.session_catalogue import (
    SessionDeleteReport,
    SessionOrder,
    SessionPage,
    SessionPickerInfo,
)
from .ports.tools import ToolContext
from .runtime.attachment_sweep import AttachmentSweepReport
from .runtime.residency import Residency
from .runtime.turn.result import TurnOutput, TurnResult
from .runtime.turn.sinks import CollectingSink, TurnActivityFanout, TurnActivitySink
from .session import LashSession, ParkedSession, SessionBuilder
from .tools import FunctionTool, ToolError, ToolResult, tool
from .turn import TurnBuilder, TurnStream

__all__ = [
    "AgentFrameSwitch",
    "AssistantOutput",
    "AssistantProseDelta",
    "AttachmentFailure",
    "AttachmentRef",
    "AttachmentSweepReport",
    "CancelToken",
    "CollectingSink",
    "CoreClosed",
    "DurableStorePeerRequired",
    "EmbedError",
    "ErrorReported",
    "FinalValue",
    "Finished",
    "FunctionTool",
    "Image",
    "ImageBlob",
    "ImageRefItem",
    "InvalidConfiguration",
    "InvalidSessionId",
    "LashCore",
    "LashCoreBuilder",
    "LashSession",
    "LeaseTimings",
    "Message",
    "MessageRole",
    "MissingAttachmentStore",
    "MissingEffectHost",
    "MissingModelSpec",
    "MissingProtocolPlugin",
    "ModelLimits",
    "ModelRequestStarted",
    "ModelSpec",
    "OutputState",
    "ParkedSession",
    "Part",
    "PartKind",
    "PromptContribution",
    "PromptLayer",
    "PromptSlot",
    "PromptTemplate",
    "QueuedInputAccepted",
    "QueuedMessagesCommitted",
    "QueuedWorkStarted",
    "ReasoningTextDelta",
    "Residency",
    "RetryScheduled",
    "RuntimeDiagnostic",
    "RuntimeFailure",
    "SessionBuilder",
    "SessionClosed",
    "SessionDeleteReport",
    "SessionDeleted",
    "SessionError",
    "SessionNodeRecord",
    "SessionNotDurable",
    "SessionOrder",
    "SessionPage",
    "SessionPickerInfo",
    "SessionPolicy",
    "SessionReadView",
    "SessionSpec",
    "SessionStillInUse",
    "SessionUsageReport",
    "StopReason",
    "Stopped",
    "StoreFailure",
    "StoreSessionMismatch",
    "StoredAttachment",
    "TextItem",
    "TokenUsage",
    "ToolCallCompleted",
    "ToolCallOutput",
    "ToolCallRecord",
    "ToolCallStarted",
    "ToolContext",
    "ToolError",
    "ToolFailure",
    "ToolFailureClass",
    "ToolResult",
    "ToolValueProduced",
    "TurnActivity",
    "TurnActivityFanout",
    "TurnActivitySink",
    "TurnBuilder",
    "TurnEvent",
    "TurnInput",
    "TurnIssue",
    "TurnOutcome",
    "TurnOutput",
    "TurnResult",
    "TurnStream",
    "UsageReported",
    "WiringError",
    "tool",
]
