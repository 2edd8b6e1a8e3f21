"""The steps of one turn, in the order in which they happen.

    normalise_input    the caller's words, as they are stored; bad input costs nothing
    resolve_provider   a turn that cannot call its model is refused before anything is written
    accept             the row and the lane, in one transaction
    refresh            the session as it is stored now
    open_draft         what the turn adds, kept apart
    build_machine      the turn machine over the transcript
    run_effects        model calls, tools, checkpoints; progress after each round of tools
    commit             history, usage, row and lease, in one transaction; then observers see it

Everything before `accept` leaves no trace. Everything after it ends in a settled row, except
the death of the process, a lost lease, an ambiguous commit or an interruption; then whoever
uses the session next finishes the turn from its journal, or closes it where there is none. The
error of an effect controller with an engine behind it is such an interruption, and so is, for a
turn with a journal, a store that was asked in vain.
"""

import logging
from collections.abc import Awaitable, Sequence
from typing import Final

import anyio

from ...kernel.assembly import TurnAssembler
from ...kernel.error_envelopes import runtime_error_event
from ...model.activity import RuntimeDiagnostic
from ...model.outcome import ExecutionSummary, StopReason, stopped
from ...model.policy import SessionPolicy
from ...model.session_events import DoneEvent, TurnOutcomeEvent
from ...model.turn_input import TurnInput
from ...ports.durability import DurabilityTier
from ...ports.effects import (
    EffectControllerError,
    RuntimeEffectController,
    TurnScope,
    keeps_record,
)
from ...ports.journal import JournalEntry, JournalStore
from ...ports.leases import SessionExecutionLease
from ...ports.session_state import HeadStamp
from ...ports.store_errors import StoreError
from ...ports.turn_ledger import (
    RequiredWiring,
    TurnAcceptance,
    TurnFailure,
    TurnRow,
    TurnSettlement,
    TurnState,
)
from ...ports.turn_persistence import TurnPersistence
from ..faults import (
    LeaseLost,
    RuntimeFault,
    SessionIsDeleted,
    WiringMissing,
    fault_of_commit,
    fault_of_refresh,
)
from ..lash_runtime import LashRuntime
from ..lease_events import LeaseEvent, tell
from ..lease_keeper import LeaseGuard
from .acceptance import AcceptedTurn, SettledTurn, TurnToFinish, accept
from .execution import TurnExecution
from .journal import TurnJournal
from .normalise import InvalidTurnInput, normalise_input
from .reporter import TurnReporter
from .request import TurnRequest, content_hash
from .result import TurnResult
from .settled import fault_of_replaced_history, result_of_row, result_of_turn
from .sinks import TurnActivitySink
from .stored_request import request_of_row, with_what_was_stored

log = logging.getLogger(__name__)

MAX_DEATHS: Final = 5
"""How many processes may die at one point of a turn before it is stopped there."""

SETTLE_DEADLINE_S: Final = 5.0
"""How long a failed turn may take to say so in the store."""


class TurnRun:
    """One turn of one session. Runs once, in a task that the core owns, under the lane."""

    def __init__(
        self, runtime: LashRuntime, request: TurnRequest, sink: TurnActivitySink | None
    ) -> None:
        env = runtime.env
        self._runtime = runtime
        self._request = request
        self._started_ms = env.clock.timestamp_ms()
        self._started = env.clock.now()
        self._assembler = TurnAssembler()
        self._reporter = TurnReporter(
            turn_id=request.turn_id,
            cell=runtime.cell,
            sink=sink,
            assembler=self._assembler,
            ids=env.ids,
        )
        self._guard: LeaseGuard | None = None
        self._attachments = runtime.attachments()
        self._turn_index = runtime.state.turn_index + 1
        self._policy: SessionPolicy | None = None
        self._journal: TurnJournal | None = None

    async def run(self) -> TurnResult:
        """Run every step. Raises `RuntimeFault` when the turn cannot run or be committed."""
        try:
            turn_input = await normalise_input(self._request.input, self._attachments)
        except InvalidTurnInput as error:
            return await self._refuse_input(error)
        return await self._to_its_end(self._accepted(turn_input))

    async def finish(self, unfinished: TurnToFinish) -> TurnResult:
        """Finish a turn that a process which is gone has begun, from its journal.

        Raises as `run`.
        """
        return await self._to_its_end(self._finished(unfinished))

    async def _to_its_end(self, steps: Awaitable[TurnResult]) -> TurnResult:
        """Whatever happens in `steps`, see to it that the row and the lane are left as they
        should be."""
        try:
            return await steps
        except anyio.get_cancelled_exc_class():
            # Interrupted: nothing is recorded as cancelled. Whoever uses the session next
            # sees to the turn, and giving the lane back lets them do it at once.
            await self._leave()
            raise
        except (LeaseLost, SessionIsDeleted):
            raise
        except WiringMissing:
            await self._give_lane_back()
            raise
        except EffectControllerError as error:
            # Left open, as by the death of this process: a stored end would be the end also for
            # the engine behind the controller, which has the record to go on from.
            await self._give_lane_back()
            raise RuntimeFault(error.code, error.message) from error
        except RuntimeFault as fault:
            if fault.undecided and self._runtime.journal is not None:
                # What is on record is all there, and a stored end would be the end of it.
                await self._leave()
            else:
                await self._settle_failed(fault)
            raise
        except Exception as error:
            unexpected = RuntimeFault("turn_failed", f"{type(error).__name__}: {error}")
            await self._settle_failed(unexpected)
            raise unexpected from error
        finally:
            if self._guard is not None:
                self._runtime.env.keeper.release(self._guard)
            if self._journal is not None:
                self._journal.close()

    async def _accepted(self, turn_input: TurnInput) -> TurnResult:
        controller = self._controller()
        await self._resolve_provider()
        match await self._accept(turn_input):
            case None:
                pass
            case SettledTurn(row=row):
                return await self._result_of(row)
            case TurnToFinish() as unfinished:
                return await self._finished(unfinished)
            case AcceptedTurn(lease=lease, row=row, head=head):
                self._hold(lease)
                if self._runtime.journal is not None:
                    controller = self._journaled(self._runtime.journal, row)
                await self._begin(row, head)
        return await self._run_accepted(turn_input, controller)

    async def _finished(self, unfinished: TurnToFinish) -> TurnResult:
        """Go on from the journal: what is on record is answered from there."""
        runtime, turn_id = self._runtime, self._request.turn_id
        self._hold(unfinished.lease)
        self._request = with_what_was_stored(self._request, unfinished.row, runtime)
        store = runtime.require_journal()
        try:
            adopted = await store.adopt_turn(unfinished.lease.fence(), turn_id)
            await self._attachments.take_up(adopted.row.accepted_at_ms)
        except StoreError as error:
            raise fault_of_commit(error, runtime.session_id) from error
        row = adopted.row
        controller = self._journaled(store, row, adopted.entries)
        if row.cancel_request is not None:
            self._request.cancel.ask(row.cancel_request)
        self._turn_index = row.turn_index
        self._policy = row.policy
        self._started_ms = row.accepted_at_ms
        if runtime.starts_over:
            runtime.start_over()  # the store did so when the turn was accepted
        await runtime.refresh(adopted.head)
        await self._reporter.emit(
            RuntimeDiagnostic(
                kind="turn_restarted", data={"turn_id": turn_id, "attempt": row.attempt}
            )
        )
        return await self._run_accepted(self._request.input, controller)

    async def _refuse_input(self, error: InvalidTurnInput) -> TurnResult:
        """Bad input is an outcome, and leaves no trace: nothing was accepted."""
        outcome = stopped(StopReason.INVALID_INPUT)
        event = runtime_error_event(str(error), kind="input_validation", code="invalid_turn_input")
        for raw in (event, TurnOutcomeEvent(outcome), DoneEvent()):
            await self._reporter.raw(raw)
        execution = ExecutionSummary(started_at_ms=self._started_ms, duration_ms=self._elapsed_ms())
        return result_of_turn(
            self._request.turn_id,
            self._assembler.assemble(()),
            execution,
            self._runtime.state.read_view(),
        )

    def _controller(self) -> RuntimeEffectController:
        """Who executes this turn's effects; refused here, before anything is written."""
        runtime = self._runtime
        scope = TurnScope(session_id=runtime.session_id, turn_id=self._request.turn_id)
        scoped = runtime.env.effect_host.scoped_static(scope)
        if scoped is None:
            raise RuntimeFault(
                "durable_effect_host_requires_handler_context",
                "this core's effect host runs turns only inside a handler of its engine",
            )
        if keeps_record(scoped.controller):
            _require_durable("attachment_store", runtime.env.attachments.durability_tier)
            if runtime.store is not None:
                _require_durable("session_store", runtime.store.durability_tier)
        return scoped.controller

    async def _resolve_provider(self) -> None:
        """Refuse what cannot call its model, before anything is written.

        Raises the fault `llm_provider`. The provider recorded in memory may be out of date, so
        the store is asked before the turn is refused. What became of a turn that was accepted
        before is told without any provider.
        """
        runtime = self._runtime
        if self._request.provider is not None:
            return
        try:
            runtime.provider_for(runtime.state.effective_policy.provider_id)
        except RuntimeFault:
            if runtime.store is None:
                raise
            if await self._is_known(runtime.store):
                return
            await runtime.refresh(await runtime.head())
            runtime.provider_for(runtime.state.effective_policy.provider_id)

    async def _is_known(self, store: TurnPersistence) -> bool:
        """Whether the turn was accepted before; such a turn is never run again."""
        session_id = self._runtime.session_id
        try:
            return await store.load_turn(session_id, self._request.turn_id) is not None
        except StoreError as error:
            raise fault_of_refresh(error, session_id) from error

    async def _accept(
        self, turn_input: TurnInput
    ) -> AcceptedTurn | SettledTurn | TurnToFinish | None:
        """Get row and lane, or what is known of the turn. Without a store there is neither."""
        runtime = self._runtime
        store = runtime.store
        if store is None:
            return None
        policy = runtime.state.effective_policy
        options = self._request.overrides.stored(starts_over=runtime.starts_over)
        acceptance = TurnAcceptance(
            session_id=runtime.session_id,
            turn_id=self._request.turn_id,
            input=turn_input,
            options=options,
            required_wiring=RequiredWiring(
                protocol=runtime.env.protocol.id,
                provider_id=options.provider_id or policy.provider_id,
                tool_names=runtime.env.catalog.tool_names(),
            ),
            content_hash=await content_hash(turn_input, options),
            owner=runtime.owner,
            lease_ttl_ms=runtime.env.keeper.timings.ttl_ms,
            policy=None if runtime.journal is None else policy,
            journaled=runtime.journal is not None,
            replace_session=runtime.starts_over,
        )
        return await accept(store, acceptance, runtime.closer, self._finish_other)

    async def _finish_other(self, unfinished: TurnToFinish) -> None:
        """A turn that was there before this one goes first. How it ends is its own caller's; that
        it could not be brought to an end is everybody's."""
        row = unfinished.row
        other = TurnRun(self._runtime, request_of_row(row), None)
        try:
            await other.finish(unfinished)
        except (LeaseLost, SessionIsDeleted, WiringMissing):
            raise
        except RuntimeFault as fault:
            if fault.undecided or fault.outcome_unknown:
                raise
            log.warning("turn %r, which came first, has failed: %s", row.turn_id, fault)

    def _hold(self, lease: SessionExecutionLease) -> None:
        runtime = self._runtime
        store = runtime.require_store("hold a lease")
        cancel = self._request.cancel
        self._guard = runtime.env.keeper.guard(store, lease, cancel.cancel, cancel.ask)

    async def _begin(self, row: TurnRow, head: HeadStamp | None) -> None:
        """Bring the session to where the accepted turn starts."""
        self._turn_index = row.turn_index
        if self._runtime.starts_over:
            self._runtime.start_over()
        else:
            await self._runtime.refresh(head)

    def _journaled(
        self, store: JournalStore, row: TurnRow, entries: Sequence[JournalEntry] = ()
    ) -> RuntimeEffectController:
        host = self._runtime.embedded
        if host is None or self._guard is None:
            raise RuntimeFault("turn_failed", "a journaled turn needs a host and a lease")
        self._journal = TurnJournal(store, row, self._guard, self._runtime.env.clock, entries)
        scope = TurnScope(session_id=row.session_id, turn_id=row.turn_id)
        exhausted = row.deaths >= MAX_DEATHS
        return host.journaled(scope, self._journal, replay_only=exhausted).controller

    async def _result_of(self, row: TurnRow) -> TurnResult:
        """What became of a turn that is over.

        Raises the fault `turn_of_replaced_history` where telling it would show a history that
        this session is to replace: the turn's words belong to that one alone.
        """
        runtime = self._runtime
        if not runtime.replaces_history:
            await runtime.refresh(await runtime.head())
            return result_of_row(row, runtime.state)
        if not (runtime.starts_over and row.options.starts_over):
            raise fault_of_replaced_history(row.turn_id)
        # The same request again: this very turn has replaced the history already.
        state = await runtime.load()
        result = result_of_row(row, state)
        runtime.start_over(state)
        return result

    async def _run_accepted(
        self, turn_input: TurnInput, controller: RuntimeEffectController
    ) -> TurnResult:
        execution = TurnExecution(
            runtime=self._runtime,
            request=self._request,
            turn_input=turn_input,
            turn_index=self._turn_index,
            guard=self._guard,
            attachments=self._attachments,
            controller=controller,
            reporter=self._reporter,
            assembler=self._assembler,
            policy=self._policy,
            journal=self._journal,
        )
        await execution.run_effects()
        return await execution.commit(started_at_ms=self._started_ms, elapsed_ms=self._elapsed_ms)

    async def _settle_failed(self, fault: RuntimeFault) -> None:
        """Record why the turn failed, and give the lane back, in one transaction.

        A commit whose outcome is unknown is left as it is: either the row is settled, or whoever
        uses the session next closes it. Giving the lane back lets them do it at once, and a
        commit that is still on its way cannot land after that, for its fence is no longer live.
        """
        guard = self._guard
        if guard is None or guard.lost:
            return
        if fault.outcome_unknown:
            await self._give_lane_back()
            return
        settlement = TurnSettlement(
            turn_id=self._request.turn_id,
            state=TurnState.FAILED,
            failure=TurnFailure(code=fault.code, message=fault.message),
            effects=() if self._journal is None else self._journal.summary(),
        )
        store = self._runtime.require_store("settle a turn")
        with anyio.move_on_after(SETTLE_DEADLINE_S, shield=True):
            try:
                await store.settle_turn(guard.fence(), settlement, release=True)
                tell(LeaseEvent.RELEASED, guard.fence())
            except StoreError as error:
                log.warning(
                    "turn %r failed with %s, which could not be recorded: %s",
                    self._request.turn_id,
                    fault.code,
                    error,
                )

    async def _leave(self) -> None:
        """Give the lane back in the middle of the turn."""
        journal = self._runtime.journal
        if journal is None or self._journal is None:
            await self._give_lane_back()
        elif self._guard is not None and not self._guard.lost:
            with anyio.move_on_after(SETTLE_DEADLINE_S, shield=True):
                try:
                    await journal.leave_turn(self._guard.fence(), self._request.turn_id)
                    tell(LeaseEvent.RELEASED, self._guard.fence())
                except StoreError as error:
                    log.warning("turn %r was left with its lane: %s", self._request.turn_id, error)

    async def _give_lane_back(self) -> None:
        if self._guard is not None and not self._guard.lost:
            await self._runtime.give_back(self._guard.fence())
            self._runtime.env.bell.ring()

    def _elapsed_ms(self) -> int:
        return round((self._runtime.env.clock.now() - self._started) * 1000)


def _require_durable(facet: str, tier: DurabilityTier) -> None:
    if tier is DurabilityTier.INLINE:
        raise RuntimeFault(
            f"durable_store_required:{facet}",
            f"the turn's effects are recorded durably, but the {facet.replace('_', ' ')} is in "
            "memory: wire a durable one",
        )
