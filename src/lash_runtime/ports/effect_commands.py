"""What can be asked for: one command for each kind of effect, and the envelope that carries it.

An envelope is checked when it is made, so that whoever executes one need not look again. Its hash
says whether a second run asks for the same thing under the same key.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from ..model.canonical import canonical_hash
from ..model.checkpoints import CheckpointKind
from ..model.llm import LlmAttachment, LlmRequest
from ..model.records import dataclass
from .await_events import AwaitEventKey
from .effect_errors import EffectControllerError
from .invocations import EffectSubject, RuntimeEffectKind, RuntimeInvocation
from .tools import PreparedToolCall


@dataclass(frozen=True, slots=True)
class LlmCallCommand:
    """Call the model. The request's live callbacks are not part of the command's identity."""

    request: LlmRequest
    type: Literal[RuntimeEffectKind.LLM_CALL] = RuntimeEffectKind.LLM_CALL


@dataclass(frozen=True, slots=True)
class DirectCommand:
    """Call the model beside the turn's own calls; what it spends is booked as `usage_source`."""

    request: LlmRequest
    usage_source: str
    type: Literal[RuntimeEffectKind.DIRECT] = RuntimeEffectKind.DIRECT


@dataclass(frozen=True, slots=True)
class ToolBatchChild:
    """One call of a batch, with the suffix that tells its replay key from its siblings'."""

    call: PreparedToolCall
    replay_suffix: str


@dataclass(frozen=True, slots=True)
class ToolBatchCommand:
    """Run a round of calls that have been prepared; `batch_id` is the effect's id.

    The batch is in flight while its attempts and their waits are: its executor asks the same
    controller for each, under a key that extends the batch's own.
    """

    batch_id: str
    calls: tuple[ToolBatchChild, ...]
    type: Literal[RuntimeEffectKind.TOOL_BATCH] = RuntimeEffectKind.TOOL_BATCH


@dataclass(frozen=True, slots=True)
class ToolAttemptCommand:
    """Run one attempt of one call; `attempt` counts from 1."""

    call: PreparedToolCall
    attempt: int
    max_attempts: int
    type: Literal[RuntimeEffectKind.TOOL_ATTEMPT] = RuntimeEffectKind.TOOL_ATTEMPT


@dataclass(frozen=True, slots=True)
class ExecCodeCommand:
    """Run a piece of code that the model wrote."""

    language: str
    code: str
    type: Literal[RuntimeEffectKind.EXEC_CODE] = RuntimeEffectKind.EXEC_CODE


@dataclass(frozen=True, slots=True)
class CheckpointCommand:
    """Collect what may join the turn now."""

    checkpoint: CheckpointKind
    type: Literal[RuntimeEffectKind.CHECKPOINT] = RuntimeEffectKind.CHECKPOINT


@dataclass(frozen=True, slots=True)
class SyncExecutionEnvironmentCommand:
    """Bring tools and prompt up to date before an iteration."""

    update_machine_config: bool
    type: Literal[RuntimeEffectKind.SYNC_EXECUTION_ENVIRONMENT] = (
        RuntimeEffectKind.SYNC_EXECUTION_ENVIRONMENT
    )


@dataclass(frozen=True, slots=True)
class SleepCommand:
    """Wait between two attempts."""

    duration_ms: int
    type: Literal[RuntimeEffectKind.SLEEP] = RuntimeEffectKind.SLEEP


@dataclass(frozen=True, slots=True)
class AwaitEventCommand:
    """Wait until somebody answers the wait of that key."""

    key: AwaitEventKey
    type: Literal[RuntimeEffectKind.AWAIT_EVENT] = RuntimeEffectKind.AWAIT_EVENT


@dataclass(frozen=True, slots=True)
class DurableStepCommand:
    """Run a step of a host's or a tool's own; `input` is JSON."""

    step_id: str
    input: Any
    type: Literal[RuntimeEffectKind.DURABLE_STEP] = RuntimeEffectKind.DURABLE_STEP


RuntimeEffectCommand = (
    LlmCallCommand
    | DirectCommand
    | ToolBatchCommand
    | ToolAttemptCommand
    | ExecCodeCommand
    | CheckpointCommand
    | SyncExecutionEnvironmentCommand
    | SleepCommand
    | AwaitEventCommand
    | DurableStepCommand
)


@dataclass(frozen=True, slots=True)
class RuntimeEffectEnvelope:
    """One step that is asked for.

    Raises `EffectControllerError` with a `runtime_effect_...` code when invocation and command do
    not fit each other, or lack what tells them from others.
    """

    invocation: RuntimeInvocation
    command: RuntimeEffectCommand

    def __post_init__(self) -> None:
        _check_invocation(self.invocation, self.command.type)
        _check_command(self.command)

    @property
    def replay_key(self) -> str:
        return self.invocation.replay_key or ""

    def document(self) -> dict[str, Any]:
        """The envelope as plain JSON data: callbacks, bytes of images and fields at their default
        are left out, so that neither a reader nor a new option changes it. O(request).

        Raises `runtime_effect_attachment_missing_reference` for an image that is nowhere stored.
        """
        document: dict[str, Any] = as_document(self)
        return document

    def stable_hash(self) -> str:
        """SHA-256 of the document's canonical JSON: the same in every process and release.

        Raises `runtime_effect_envelope_hash` for what cannot be written as JSON. O(request).
        """
        try:
            return canonical_hash(self.document())
        except (TypeError, ValueError, RecursionError) as error:
            raise EffectControllerError(
                "runtime_effect_envelope_hash", f"the effect cannot be written as JSON: {error}"
            ) from error


def _check_invocation(invocation: RuntimeInvocation, kind: RuntimeEffectKind) -> None:
    subject = invocation.subject
    if not isinstance(subject, EffectSubject) or not subject.effect_id.strip():
        raise _refused("invocation_subject", "an effect's invocation names an effect by its id")
    if subject.kind is not kind:
        raise _refused(
            "invocation_kind", f"a {kind.value} command came under a {subject.kind.value}"
        )
    if not invocation.replay_key:
        raise _refused("replay_required", f"effect {subject.effect_id!r} has no replay key")


def _check_command(command: RuntimeEffectCommand) -> None:
    match command:
        case ToolBatchCommand():
            _check_batch(command)
        case ToolAttemptCommand():
            if not command.call.call_id.strip():
                raise _refused("tool_attempt_call_id", "an attempt names its call")
            if not 1 <= command.attempt <= command.max_attempts:
                raise _refused(
                    "tool_attempt_index",
                    f"attempt {command.attempt} of {command.max_attempts} cannot be",
                )
        case DurableStepCommand(step_id=step_id) if not step_id.strip():
            raise _refused("durable_step_id", "a durable step has an id")
        case _:
            pass


def _check_batch(batch: ToolBatchCommand) -> None:
    if not batch.batch_id.strip():
        raise _refused("tool_batch_id", "a batch has an id")
    if not batch.calls:
        raise _refused("tool_batch_empty", f"batch {batch.batch_id!r} has no calls")
    for child in batch.calls:
        if not child.call.call_id.strip():
            raise _refused("tool_batch_call_id", f"a call of batch {batch.batch_id!r} has no id")
        if not child.replay_suffix.strip():
            raise _refused(
                "tool_batch_call_replay", f"call {child.call.call_id!r} has no suffix of its own"
            )


def _refused(code: str, message: str) -> EffectControllerError:
    return EffectControllerError(f"runtime_effect_{code}", message)


_TAG: Final = "type"
"""The field that tells variants apart; it stays although it is always at its default."""


def as_document(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, LlmAttachment):
        return _attachment(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {
            member.name: as_document(field)
            for member in fields(value)
            if _counts(member, field := getattr(value, member.name))
        }
    if isinstance(value, tuple | list):
        return [as_document(item) for item in value]
    if isinstance(value, Mapping):
        return {key: as_document(item) for key, item in value.items()}
    return value


def _attachment(attachment: LlmAttachment) -> dict[str, Any]:
    """An image by its reference. Whether its bytes are at hand is no part of what is asked."""
    if attachment.reference is None:
        raise _refused(
            "attachment_missing_reference",
            "an image has to be stored before a request that shows it can be on record",
        )
    return {"mime": attachment.mime, "reference": as_document(attachment.reference)}


def _counts(member: "Field[Any]", value: Any) -> bool:
    if not member.compare:
        return False
    if member.name == _TAG:
        return True
    if member.default_factory is not MISSING:
        return bool(value != member.default_factory())
    return member.default is MISSING or bool(value != member.default)
