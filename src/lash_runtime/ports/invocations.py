"""Who asks for an effect, where it belongs, and the key under which a second run asks again.

Rule: a replay key is a pure function of durable identity. It holds neither time nor process id nor
randomness, and does not depend on the order in which tasks run.
"""

from enum import StrEnum
from typing import Literal, assert_never

from ..model.causes import (
    CausalRef,
    EffectRef,
    ProcessEventRef,
    ProcessRef,
    SessionNodeRef,
    TriggerOccurrenceRef,
)
from ..model.records import dataclass


class RuntimeEffectKind(StrEnum):
    """Every kind of step that is not pure computation."""

    LLM_CALL = "llm_call"
    DIRECT = "direct"
    TOOL_ATTEMPT = "tool_attempt"
    TOOL_BATCH = "tool_batch"
    PROCESS = "process"
    EXEC_CODE = "exec_code"
    CHECKPOINT = "checkpoint"
    SYNC_EXECUTION_ENVIRONMENT = "sync_execution_environment"
    SLEEP = "sleep"
    AWAIT_EVENT = "await_event"
    DURABLE_STEP = "durable_step"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeScope:
    """Where the work belongs. Outside a turn the last three are `None`."""

    session_id: str
    turn_id: str | None = None
    turn_index: int | None = None
    protocol_iteration: int | None = None


@dataclass(frozen=True, slots=True)
class EffectSubject:
    effect_id: str
    kind: RuntimeEffectKind
    type: Literal["effect"] = "effect"


@dataclass(frozen=True, slots=True)
class ProcessSubject:
    process_id: str
    type: Literal["process"] = "process"


@dataclass(frozen=True, slots=True)
class ProcessEventSubject:
    process_id: str
    sequence: int
    event_type: str
    type: Literal["process_event"] = "process_event"


@dataclass(frozen=True, slots=True)
class TriggerOccurrenceSubject:
    occurrence_id: str
    type: Literal["trigger_occurrence"] = "trigger_occurrence"


@dataclass(frozen=True, slots=True)
class SessionNodeSubject:
    node_id: str
    type: Literal["session_node"] = "session_node"


RuntimeSubject = (
    EffectSubject
    | ProcessSubject
    | ProcessEventSubject
    | TriggerOccurrenceSubject
    | SessionNodeSubject
)
"""What an invocation is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInvocation:
    """One piece of work: where it belongs, what it is, what led to it, and its replay key."""

    scope: RuntimeScope
    subject: RuntimeSubject
    caused_by: CausalRef | None = None
    replay_key: str | None = None

    @property
    def effect_id(self) -> str | None:
        """The effect's id; `None` where the subject is none."""
        return self.subject.effect_id if isinstance(self.subject, EffectSubject) else None

    @property
    def effect_kind(self) -> RuntimeEffectKind | None:
        """The effect's kind; `None` where the subject is none."""
        return self.subject.kind if isinstance(self.subject, EffectSubject) else None

    def causal_ref(self) -> CausalRef:
        """How others name this invocation as their cause."""
        subject = self.subject
        match subject:
            case EffectSubject(effect_id=effect_id):
                scope = self.scope
                return EffectRef(
                    session_id=scope.session_id, turn_id=scope.turn_id, effect_id=effect_id
                )
            case ProcessSubject(process_id=process_id):
                return ProcessRef(process_id=process_id)
            case ProcessEventSubject(process_id=process_id, sequence=sequence):
                return ProcessEventRef(process_id=process_id, sequence=sequence)
            case TriggerOccurrenceSubject(occurrence_id=occurrence_id):
                return TriggerOccurrenceRef(occurrence_id=occurrence_id)
            case SessionNodeSubject(node_id=node_id):
                return SessionNodeRef(session_id=self.scope.session_id, node_id=node_id)
            case _:
                assert_never(subject)


def turn_effect_key(scope: RuntimeScope, kind: RuntimeEffectKind, effect_id: str) -> str:
    """The replay key of an effect that a turn asks for directly."""
    return (
        f"{scope.session_id}:{scope.turn_id}:{scope.turn_index}:"
        f"{scope.protocol_iteration}:{kind}:{effect_id}"
    )
