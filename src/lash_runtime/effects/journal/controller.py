"""Runs the effects of one journaled turn, or answers them from what an earlier run has recorded.

Rule 1: a recorded outcome wins. A model request that differs from the recorded one is a warning,
for a new release may well ask a little differently. Another kind of effect, another tool or other
arguments under a recorded key are not the same turn any more: `turn_replay_mismatch`, and nothing
is begun after that, whoever may have caught the error.
Rule 2: a model call is never reserved. One without a record is made again, and its outcome is
written along with the next write, which for a turn without tools is its commit.
Rule 3: a tool's attempt is reserved before it starts and recorded once it has ended. One that is
reserved alone is nobody's to repeat: its tool says what is to be done.
Rule 4: what was cut off by a cancel is not recorded. The turn commits without running it again,
or, if its process dies first, what became of the call is unknown.
"""

import logging
from collections.abc import Mapping
from typing import Final

import anyio

from ...model.llm import LlmCallError, LlmTerminalReason
from ...model.records import replace
from ...model.tool_results import (
    ToolCallOutput,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
)
from ...model.tools import OnUnknown
from ...ports.durability import DurabilityTier
from ...ports.effects import (
    EffectControllerError,
    LlmCallCommand,
    LlmCallOutcome,
    LocalEffectExecutor,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    SleepCommand,
    SleepOutcome,
    ToolAttemptCommand,
    ToolAttemptOutcome,
    ToolBatchCommand,
    ToolCallDone,
    expect_outcome,
)
from ...ports.journal import (
    EffectIdentity,
    EffectJournal,
    EffectRecorded,
    EffectReserved,
    JournalEntry,
    RepeatableExecutor,
)
from .components import RequestComponents, of_tool_call
from .outcomes import decode_outcome, encode_outcome

log = logging.getLogger(__name__)

RECORD_DEADLINE_S: Final = 5.0
"""How long a call that has ended may take to be put on record while its turn is interrupted."""

OUTCOME_UNKNOWN: Final = "tool_outcome_unknown"
ATTEMPTS_EXHAUSTED: Final = "turn_attempts_exhausted"
REPLAY_MISMATCH: Final = "turn_replay_mismatch"


class JournalEffectController:
    """The controller of one run of one turn."""

    durability_tier = DurabilityTier.DURABLE
    supports_concurrent_effects = True
    embedded = True

    def __init__(self, journal: EffectJournal, *, replay_only: bool = False) -> None:
        """With `replay_only` the turn ends at its first effect that is not on record."""
        self._journal = journal
        self._replay_only = replay_only
        self._requests = RequestComponents(journal.base)
        self._rounds: dict[str, str] = {}
        self._mismatch: str | None = None

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        self._check_no_mismatch()
        match envelope.command:
            case LlmCallCommand() as command:
                return await self._call_model(envelope, command, executor)
            case ToolBatchCommand() as command:
                return await self._run_batch(envelope, command, executor)
            case ToolAttemptCommand() as command:
                return await self._attempt(envelope, command, executor)
            case SleepCommand() as command:
                return await self._sleep(envelope, command, executor)
            case _:
                # A pure function of what is recorded, or nothing that acts on the world.
                return await executor.execute(envelope)

    async def _call_model(
        self,
        envelope: RuntimeEffectEnvelope,
        command: LlmCallCommand,
        executor: LocalEffectExecutor,
    ) -> RuntimeEffectOutcome:
        position = envelope.invocation.effect_id or ""
        self._check_kind(position, RuntimeEffectKind.LLM_CALL)
        entry = self._journal.entry(envelope.replay_key)
        if entry is not None and entry.outcome is not None:
            self._warn_if_other(entry, self._requests.of(command.request))
            return decode_outcome(RuntimeEffectKind.LLM_CALL, entry.outcome)
        self._check_may_begin(envelope)
        answer = await executor.execute(envelope)
        outcome = expect_outcome(command, answer, LlmCallOutcome)
        if not _was_cancelled(outcome):

            def record() -> EffectRecorded:
                effect = EffectIdentity(
                    replay_key=envelope.replay_key,
                    kind=RuntimeEffectKind.LLM_CALL,
                    position=position,
                    subject=command.request.model,
                    components=self._requests.of(command.request),
                )
                return _recorded(effect, outcome)

            self._journal.ride(record)
        return outcome

    async def _run_batch(
        self,
        envelope: RuntimeEffectEnvelope,
        command: ToolBatchCommand,
        executor: LocalEffectExecutor,
    ) -> RuntimeEffectOutcome:
        """The round itself is not recorded: it is what its attempts make of it."""
        key = envelope.replay_key
        self._check_kind(command.batch_id, RuntimeEffectKind.TOOL_ATTEMPT)
        for child in command.calls:
            entry = self._journal.entry(f"{key}:{child.replay_suffix}:attempt:1")
            if entry is not None:
                self._check_call(entry, of_tool_call(child.call), child.call.call_id)
        self._rounds[key] = command.batch_id
        try:
            return await executor.execute(envelope)
        finally:
            del self._rounds[key]

    async def _attempt(
        self,
        envelope: RuntimeEffectEnvelope,
        command: ToolAttemptCommand,
        executor: LocalEffectExecutor,
    ) -> RuntimeEffectOutcome:
        components = of_tool_call(command.call)
        effect = EffectIdentity(
            replay_key=envelope.replay_key,
            kind=RuntimeEffectKind.TOOL_ATTEMPT,
            position=self._round_of(envelope.replay_key),
            subject=command.call.tool_name,
            components=components,
        )
        entry = self._journal.entry(envelope.replay_key)
        if entry is not None:
            self._check_call(entry, components, command.call.call_id)
            if entry.outcome is not None:
                return decode_outcome(RuntimeEffectKind.TOOL_ATTEMPT, entry.outcome)
            if not isinstance(executor, RepeatableExecutor):
                return await self._report_unknown(effect)
            match executor.on_unknown:
                case OnUnknown.RERUN if not self._replay_only:
                    executor = executor.again(entry.runs + 1)
                case _:
                    return await self._report_unknown(effect)
        self._check_may_begin(envelope)
        await self._journal.write(EffectReserved(effect=effect))
        answer = await executor.execute(envelope)
        outcome = expect_outcome(command, answer, ToolAttemptOutcome)
        self._check_no_mismatch()  # of a call that this one has made
        if not (isinstance(executor, RepeatableExecutor) and executor.was_cut_off):
            # It has happened, and a turn that is being interrupted must not forget it.
            with anyio.move_on_after(RECORD_DEADLINE_S, shield=True):
                await self._journal.write(_recorded(effect, outcome))
        return outcome

    async def _report_unknown(self, effect: EffectIdentity) -> ToolAttemptOutcome:
        """Nothing is silently run twice: the model is told, and the answer is on record."""
        failure = ToolFailure(
            class_=ToolFailureClass.EXECUTION,
            code=OUTCOME_UNKNOWN,
            message="The process that ran this call ended before its result was recorded. The call "
            "may or may not have taken effect.",
            source=ToolFailureSource.RUNTIME,
        )
        outcome = ToolAttemptOutcome(ToolCallDone(ToolCallOutput.failure(failure), 0))
        await self._journal.write(_recorded(effect, outcome))
        return outcome

    async def _sleep(
        self,
        envelope: RuntimeEffectEnvelope,
        command: SleepCommand,
        executor: LocalEffectExecutor,
    ) -> RuntimeEffectOutcome:
        """Ends when it was due to, however many processes have waited for it."""
        entry = self._journal.entry(envelope.replay_key)
        if entry is not None and entry.outcome is not None:
            return SleepOutcome()
        self._check_may_begin(envelope)
        effect = EffectIdentity(
            replay_key=envelope.replay_key,
            kind=RuntimeEffectKind.SLEEP,
            position=self._round_of(envelope.replay_key),
            subject=f"{command.duration_ms} ms",
            components={},
        )
        due_at_ms = None if entry is None else entry.due_at_ms
        if due_at_ms is None:
            due_at_ms = self._journal.now_ms() + command.duration_ms
            await self._journal.write(EffectReserved(effect=effect, due_at_ms=due_at_ms))
        left_ms = max(0, due_at_ms - self._journal.now_ms())
        rest = replace(envelope, command=replace(command, duration_ms=left_ms))
        outcome = await executor.execute(rest)
        self._journal.ride(lambda: _recorded(effect, outcome))
        return outcome

    def _check_may_begin(self, envelope: RuntimeEffectEnvelope) -> None:
        if self._replay_only:
            raise EffectControllerError(
                ATTEMPTS_EXHAUSTED,
                "the processes that ran this turn have died too often at this point: what is on "
                f"record is kept, and {envelope.command.type.value} is not begun again",
            )

    def _round_of(self, replay_key: str) -> str:
        """The round that an effect belongs to: the innermost one that its key extends."""
        rounds = [key for key in self._rounds if replay_key.startswith(f"{key}:")]
        return self._rounds[max(rounds, key=len)] if rounds else ""

    def _check_kind(self, position: str, kind: RuntimeEffectKind) -> None:
        recorded = self._journal.kind_at(position)
        if recorded is not None and recorded is not kind:
            self._mismatch = (
                f"effect {position} of the turn is a {kind.value}, but a {recorded.value} is on "
                "record: the turn cannot be gone on with by this release"
            )
        self._check_no_mismatch()

    def _check_call(self, entry: JournalEntry, asked: Mapping[str, str], call_id: str) -> None:
        differing = _differing(entry, asked)
        if differing:
            self._mismatch = (
                f"call {call_id!r}, on record as one of {entry.effect.subject!r}, is now asked "
                f"for otherwise: {' and '.join(differing)} differ; the turn cannot be gone on with"
            )
        self._check_no_mismatch()

    def _check_no_mismatch(self) -> None:
        if self._mismatch is not None:
            raise EffectControllerError(REPLAY_MISMATCH, self._mismatch)

    def _warn_if_other(self, entry: JournalEntry, asked: Mapping[str, str]) -> None:
        differing = _differing(entry, asked)
        if differing:
            log.warning(
                "the recorded answer of model call %s was given to another request: %s differ",
                entry.effect.replay_key,
                ", ".join(differing),
            )


def _recorded(effect: EffectIdentity, outcome: RuntimeEffectOutcome) -> EffectRecorded:
    return EffectRecorded(effect=effect, outcome=encode_outcome(effect.kind, outcome))


def _was_cancelled(outcome: LlmCallOutcome) -> bool:
    result = outcome.result
    return (
        isinstance(result, LlmCallError) and result.terminal_reason is LlmTerminalReason.CANCELLED
    )


def _differing(entry: JournalEntry, asked: Mapping[str, str]) -> list[str]:
    """The names of what was asked otherwise when the entry was made."""
    recorded = entry.effect.components
    return [name for name in asked if asked[name] != recorded.get(name)]
