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
uses the session next closes the turn.
"""

import anyio

from ...kernel.assembly import TurnAssembler
from ...model.outcome import ErrorEnvelope, StopReason, stopped
from ...model.session_events import DoneEvent, ErrorEvent, TurnOutcomeEvent
from ...model.turn_input import TurnInput
from ...ports.store_errors import StoreError
from ...ports.turn_ledger import (
    RequiredWiring,
    TurnAcceptance,
    TurnFailure,
    TurnSettlement,
    TurnState,
)
from ..faults import LeaseLost, RuntimeFault
from ..lease_keeper import LeaseGuard
from ..session_context import SessionContext
from .acceptance import AcceptedTurn, SettledTurn, accept
from .execution import TurnExecution
from .normalise import InvalidTurnInput, normalise_input
from .reporter import TurnReporter
from .request import TurnRequest, content_hash
from .result import TurnResult
from .settled import result_of_row, result_of_run
from .sinks import TurnActivitySink

RELEASE_DEADLINE_S = 5.0
"""How long leaving a turn may take to give its lease back."""


class TurnRun:
    """One turn of one session. Runs once, in a task that the core owns, under the lane."""

    def __init__(
        self, session: SessionContext, request: TurnRequest, sink: TurnActivitySink | None
    ) -> None:
        env = session.env
        self._session = session
        self._request = request
        self._started_ms = env.clock.timestamp_ms()
        self._started = env.clock.now()
        self._assembler = TurnAssembler()
        self._reporter = TurnReporter(
            turn_id=request.turn_id,
            cell=session.cell,
            sink=sink,
            assembler=self._assembler,
            ids=env.ids,
        )
        self._guard: LeaseGuard | None = None

    async def run(self) -> TurnResult:
        """Run every step. Raises `RuntimeFault` when the turn cannot run or be committed."""
        session = self._session
        try:
            turn_input = await normalise_input(self._request.input, session.env.attachments)
        except InvalidTurnInput as error:
            return await self._refuse_input(error)
        self._resolve_provider()
        settled = await self._accept(turn_input)
        if settled is not None:
            return settled
        try:
            return await self._run_accepted(turn_input)
        except anyio.get_cancelled_exc_class():
            # Interrupted: nothing is recorded as cancelled. Whoever uses the session next
            # closes the turn, and giving the lane back lets them do it at once.
            await self._release_lease()
            raise
        except LeaseLost:
            raise
        except RuntimeFault as fault:
            await self._settle_failed(fault)
            raise
        except Exception as error:
            fault = RuntimeFault("turn_failed", f"{type(error).__name__}: {error}")
            await self._settle_failed(fault)
            raise fault from error
        finally:
            if self._guard is not None:
                session.env.keeper.release(self._guard)

    def _resolve_provider(self) -> None:
        """Refuse early what would fail for certain. The session may turn out to be recorded
        with another provider once it was refreshed; then the turn fails after all."""
        if self._request.overrides.provider is None and self._session.store is None:
            self._session.provider_for(self._session.state.effective_policy.provider_id)

    async def _accept(self, turn_input: TurnInput) -> TurnResult | None:
        """Get row and lane; the result of the same turn if it is already over."""
        session = self._session
        if session.store is None:
            return None
        options = self._request.overrides.stored()
        policy = session.state.effective_policy
        acceptance = TurnAcceptance(
            session_id=session.session_id,
            turn_id=self._request.turn_id,
            input=turn_input,
            options=options,
            required_wiring=RequiredWiring(
                protocol=session.env.protocol.id,
                provider_id=options.provider_id or policy.provider_id,
                tool_names=session.env.catalog.tool_names(),
            ),
            content_hash=content_hash(turn_input, options),
            owner=session.owner,
            lease_ttl_ms=session.env.keeper.timings.ttl_ms,
            replace_session=session.replace_session,
        )
        answer = await accept(session.store, acceptance, session.closer)
        match answer:
            case SettledTurn(row=row):
                await session.refresh(await session.head())
                return result_of_row(row, session.state)
            case AcceptedTurn(lease=lease, row=row, head=head):
                self._guard = session.env.keeper.guard(
                    session.store, lease, self._request.cancel.cancel
                )
                self._turn_index = row.turn_index
                session.started_over()
                await self._refresh(head)
                return None

    async def _run_accepted(self, turn_input: TurnInput) -> TurnResult:
        execution = TurnExecution(
            session=self._session,
            request=self._request,
            turn_input=turn_input,
            turn_index=self._turn_index,
            guard=self._guard,
            reporter=self._reporter,
        )
        await execution.run_effects()
        return await execution.commit(
            self._assembler.assemble(execution.messages),
            started_at_ms=self._started_ms,
            elapsed_ms=round((self._session.env.clock.now() - self._started) * 1000),
        )
