"""The part of a turn that runs under its lane: a draft, a machine, its effects, one commit.

Nothing of it touches the session's state before the commit has succeeded. The commit is shielded
and bounded by the store's own limits; a native cancellation that pierces the shield leaves a
commit whose stamp makes repeating it harmless.
"""

import logging
from collections.abc import Callable

import anyio

from ...kernel.assembly import AssembledTurn, TurnAssembler
from ...kernel.error_envelopes import LLM_PROVIDER, runtime_error_event
from ...kernel.machine.config import TurnMachineConfig
from ...kernel.machine.effects import Done, Progress
from ...kernel.machine.machine import TurnMachine
from ...kernel.machine.settings import MachineSettings
from ...kernel.read_model import EventRecord
from ...kernel.resume_safety import CallLedger
from ...kernel.turn_cancels import is_cancellation
from ...kernel.turn_messages import message_scope, opening_messages
from ...model.cancelling import CancelRequest
from ...model.llm import GenerationOptions, LlmToolSpec
from ...model.nodes import ProtocolEvent
from ...model.outcome import (
    AgentFrameSwitch,
    ExecutionSummary,
    StopReason,
    TurnIssue,
    stopped,
)
from ...model.policy import SessionPolicy
from ...model.records import replace
from ...model.session_events import DoneEvent, ErrorEvent
from ...model.turn_input import TurnInput
from ...model.usage import TokenLedgerEntry
from ...ports.effects import RuntimeEffectController, RuntimeScope, keeps_record
from ...ports.provider import ResolvedProvider
from ...ports.store_errors import (
    SessionExecutionLeaseExpired,
    StoredSessionDeleted,
    StoreError,
    TurnCancelRequested,
)
from ...ports.turn_ledger import TurnSettlement, TurnState
from ..faults import fault_of_commit
from ..lash_runtime import LashRuntime
from ..lease_events import LeaseEvent, tell
from ..lease_keeper import LeaseGuard
from ..session_attachments import SessionAttachments
from ..state import RuntimeSessionState
from .commit import progress_commit, settling_commit
from .effect_loop import EffectLoop
from .executors import TurnExecutors
from .journal import TurnJournal
from .reporter import TurnReporter
from .request import TurnRequest
from .result import TurnResult
from .settled import record_of_turn, result_of_turn

log = logging.getLogger(__name__)


class TurnExecution:
    """One accepted turn at work. `guard` is its lease; a session without a store has none."""

    def __init__(
        self,
        *,
        runtime: LashRuntime,
        request: TurnRequest,
        turn_input: TurnInput,
        turn_index: int,
        guard: LeaseGuard | None,
        attachments: SessionAttachments,
        controller: RuntimeEffectController,
        reporter: TurnReporter,
        assembler: TurnAssembler,
        policy: SessionPolicy | None = None,
        journal: TurnJournal | None = None,
    ) -> None:
        """`policy` is that of the session when the turn was accepted, where it may have changed
        since; `journal` is where its effects are on record."""
        self._runtime = runtime
        self._request = request
        self._guard = guard
        self._attachments = attachments
        self._controller = controller
        self._reporter = reporter
        self._assembler = assembler
        self._journal = journal
        self._as_accepted = policy is not None
        state = runtime.state if policy is None else runtime.state.with_policy(policy)
        self._state = replace(state, turn_index=turn_index)
        self._policy = _policy_of_turn(self._state.effective_policy, request)
        self._options = self._state.effective_options.merged_with_override(
            turn_input.protocol_turn_options
        )
        known = self._state.graph.read_model(self._state.visible)
        self._message_scope = message_scope(request.turn_id, turn_index, known.has_message)
        self._draft = runtime.open_draft(self._state, self._message_scope)
        self._first_own = len(self._draft.messages)
        self._messages = self._draft.messages.extend(
            opening_messages(self._message_scope, turn_input)
        )
        self._draft.reconcile(self._messages, self._now())
        self._events: list[EventRecord] = []
        self._latest_scope: RuntimeScope | None = None
        self._follow_calls()

    async def run_effects(self) -> None:
        """Drive the turn's machine to its end. Problems of model and tools end up in it.

        Raises `RuntimeFault` when the provider cannot be had or the lease is lost, and the
        `EffectControllerError` of a durable controller.
        """
        provider = self._provider()
        variant_problem = _variant_problem(provider, self._policy)
        if variant_problem is not None:
            await self._reporter.raw(variant_problem)
            await self._reporter.raw(DoneEvent())
            return
        env = self._runtime.env
        controller = self._controller
        machine = TurnMachine(
            self._machine_config(provider), turn_id=self._message_scope, messages=self._messages
        )
        executors = TurnExecutors(
            provider=provider,
            attachments=self._attachments,
            output_token_capacity=self._policy.model.limits.output_token_capacity,
            catalog=env.catalog,
            controller=controller,
            reporter=self._reporter,
            cancel=self._request.cancel,
            clock=env.clock,
            turn_id=self._request.turn_id,
            agent_frame_id=self._state.current_agent_frame_id,
            environment=self._environment,
        )
        loop = EffectLoop(
            machine=machine,
            controller=controller,
            executors=executors,
            reporter=self._reporter,
            cancel=self._request.cancel,
            scope=self._scope,
            ensure_held=_nothing_to_hold if self._guard is None else self._guard.ensure_held,
            keep_progress=self._keep_progress,
            store_progress=_nothing_to_store if keeps_record(controller) else self._store_progress,
        )
        await loop.run()

    async def commit(self, *, started_at_ms: int, elapsed_ms: Callable[[], int]) -> TurnResult:
        """Store the whole turn at once, make it the session's state, and say how it ended.

        A request to cancel that has come until then makes it a cancelled turn: nothing runs
        again, and all that was finished stays. Raises `LeaseLost` when another owner has taken the
        session over, and `RuntimeFault` when the store refuses; the session's state is unchanged
        then.
        """
        cancel = self._request.cancel
        turn = self._assembled(cancel.request)
        cancel.decide(cancelled=is_cancellation(turn.outcome))
        execution = ExecutionSummary(
            had_tool_calls=turn.has_tool_calls,
            started_at_ms=started_at_ms,
            duration_ms=elapsed_ms(),
        )
        entries = self._ledger_entries(turn)
        state = replace(
            self._state,
            graph=self._draft.graph,
            token_usage=turn.usage if turn.usage.total else self._state.token_usage,
            last_prompt_usage=turn.prompt_usage or self._state.last_prompt_usage,
        ).with_usage(entries)
        with anyio.CancelScope(shield=True):
            if self._guard is not None:
                try:
                    state = await self._store_turn(state, turn, execution, entries, self._guard)
                except TurnCancelRequested as refused:
                    turn = self._assembled(refused.request)
                    state = await self._store_turn(state, turn, execution, entries, self._guard)
            if self._as_accepted:
                # What the session ran with then is stored; from here on the host's counts again.
                state = self._runtime.reconciled(state)
            self._runtime.install(state, self._request.turn_id)
        return result_of_turn(self._request.turn_id, turn, execution, state.read_view())

    def _assembled(self, cancellation: CancelRequest | None) -> AssembledTurn:
        return _without_frame_switch(
            self._assembler.assemble(self._messages, cancellation=cancellation)
        )

    async def _store_turn(
        self,
        state: RuntimeSessionState,
        turn: AssembledTurn,
        execution: ExecutionSummary,
        entries: tuple[TokenLedgerEntry, ...],
        guard: LeaseGuard,
    ) -> RuntimeSessionState:
        """Raises `TurnCancelRequested`, besides faults, when `turn` may not end like that."""
        guard.ensure_held()
        own = self._messages[self._first_own :]
        settlement = TurnSettlement(
            turn_id=self._request.turn_id,
            state=TurnState.COMMITTED,
            result=record_of_turn(turn, own, execution),
            effects=() if self._journal is None else self._journal.summary(),
        )
        commit = settling_commit(
            state,
            self._draft,
            guard.fence(),
            settlement,
            messages=own,
            usage=entries,
            stored=self._attachments.pending,
        )
        store = self._runtime.require_store("commit a turn")
        try:
            result = await store.commit_runtime_state(commit)
        except TurnCancelRequested:
            raise
        except StoreError as error:
            raise fault_of_commit(error, self._runtime.session_id) from error
        tell(LeaseEvent.RELEASED, guard.fence())
        if result.replayed:
            # An earlier commit of this turn stands, with nodes that this draft does not have.
            return await self._runtime.load()
        return state.after_commit(result, state.graph)

    def _keep_progress(self, progress: Progress | Done) -> None:
        """Take what the machine has finished into the draft, once no call in it is open."""
        self._events.extend(progress.event_delta)
        followed, self._messages = self._messages, progress.messages
        if self._messages.grew_from(followed):
            self._calls.follow(self._messages[len(followed) :])
        else:
            self._follow_calls()
        if not self._calls.is_resume_safe:
            return
        now = self._now()
        if any(isinstance(event, ProtocolEvent) for event in self._events):
            self._draft.append_events(self._events, now)
        self._events.clear()
        self._draft.reconcile(self._messages, now)

    def _follow_calls(self) -> None:
        self._calls = CallLedger()
        self._calls.follow(self._messages[self._first_own :])

    async def _store_progress(self) -> None:
        """Store a finished round of tools, so that a crash does not lose work that was paid for.

        A store that cannot take it is not the turn's end: the final commit carries everything.
        """
        if self._guard is None:
            return
        self._guard.ensure_held()
        commit = progress_commit(
            self._state, self._draft, self._guard.fence(), stored=self._attachments.pending
        )
        store = self._runtime.require_store("store progress")
        try:
            result = await store.commit_runtime_state(commit)
        except (SessionExecutionLeaseExpired, StoredSessionDeleted) as error:
            raise fault_of_commit(error, self._runtime.session_id) from error
        except StoreError as error:
            log.warning(
                "progress of turn %r was not stored, it goes on: %s", self._request.turn_id, error
            )
            return
        if result.cancel_request is not None:
            self._request.cancel.ask(result.cancel_request)
        self._state = self._state.after_commit(result, self._draft.graph)
        self._draft.mark_committed()
        self._attachments.committed(commit.committed_attachment_ids)

    def _machine_config(self, provider: ResolvedProvider) -> TurnMachineConfig:
        policy = self._policy
        protocol = self._runtime.env.protocol
        system_prompt, tool_specs = self._environment()
        return TurnMachineConfig(
            settings=MachineSettings(
                session_id=self._runtime.session_id,
                agent_frame_id=self._state.current_agent_frame_id,
                model=policy.model.id,
                model_variant=policy.model.variant,
                generation=GenerationOptions(output_token_cap=provider.options().max_output_tokens),
                max_context_tokens=policy.model.limits.context_window_tokens,
                max_turns=policy.max_turns,
                autonomous=policy.autonomous,
                protocol_turn_options=self._options,
            ),
            driver=protocol.driver,
            system_prompt=system_prompt,
            tool_specs=tool_specs,
            projection=self._runtime.projection,
            sync_execution_environment=protocol.sync_execution_environment,
        )

    def _environment(self) -> tuple[str, tuple[LlmToolSpec, ...]]:
        """The prompt and the tools of the next model call."""
        env = self._runtime.env
        protocol, catalog = env.protocol, env.catalog
        tool_names = catalog.tool_names()
        prompt = self._runtime.prompts.render(
            (
                protocol.preamble,
                env.core_prompt,
                self._policy.prompt,
                self._request.overrides.prompt,
            ),
            execution_prompt=protocol.execution_prompt(tool_names),
            tool_names=tool_names,
        )
        return prompt, catalog.tool_specs()

    def _provider(self) -> ResolvedProvider:
        if self._request.provider is not None:
            return self._request.provider
        return self._runtime.provider_for(self._policy.provider_id)

    def _scope(self, iteration: int) -> RuntimeScope:
        """The same one for all effects of an iteration."""
        scope = self._latest_scope
        if scope is None or scope.protocol_iteration != iteration:
            scope = self._latest_scope = RuntimeScope(
                session_id=self._runtime.session_id,
                turn_id=self._request.turn_id,
                turn_index=self._state.turn_index,
                protocol_iteration=iteration,
            )
        return scope

    def _ledger_entries(self, turn: AssembledTurn) -> tuple[TokenLedgerEntry, ...]:
        if turn.usage.total == 0:
            return ()
        return (TokenLedgerEntry(source="turn", model=self._policy.model.id, usage=turn.usage),)

    def _now(self) -> str:
        return self._runtime.env.clock.timestamp_rfc3339()


def _policy_of_turn(policy: SessionPolicy, request: TurnRequest) -> SessionPolicy:
    """What this turn runs with. The session's own policy stays as it is."""
    overrides = request.overrides
    changes: dict[str, object] = {}
    if overrides.model is not None:
        changes["model"] = overrides.model
    if overrides.max_turns is not None:
        changes["max_turns"] = overrides.max_turns
    return policy.model_copy(update=changes) if changes else policy


def _variant_problem(provider: ResolvedProvider, policy: SessionPolicy) -> ErrorEvent | None:
    """The error of a turn whose model variant its provider does not know."""
    if policy.model.variant is None:
        return None
    try:
        provider.validate_variant(policy.model.id, policy.model.variant)
    except ValueError as error:
        return runtime_error_event(str(error), kind=LLM_PROVIDER, code="invalid_model_variant")
    return None


def _without_frame_switch(turn: AssembledTurn) -> AssembledTurn:
    """A turn that asks to go on in another agent frame ends here, and says why: a session has
    one frame. What the turn did is kept."""
    if not isinstance(turn.outcome, AgentFrameSwitch):
        return turn
    issue = TurnIssue(
        kind="runtime",
        code="agent_frame_unavailable",
        message=f"The turn asked to go on in agent frame {turn.outcome.frame_id!r}, "
        "but a session has one frame.",
    )
    return replace(turn, outcome=stopped(StopReason.RUNTIME_ERROR), errors=(*turn.errors, issue))


def _nothing_to_hold() -> None:
    """A session without a store has no lease."""


async def _nothing_to_store() -> None:
    """A controller that keeps its own record has each finished effect already."""
