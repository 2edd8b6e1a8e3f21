"""What a core's recovery finishes turns with: the core's own wiring, and nothing per session.

Apart from the core, so that the task of the recovery does not keep a core alive that was dropped.
"""

from collections.abc import Sequence
from functools import partial

from .ports.durability import DurabilityTier
from .ports.journal import EmbeddedEffectHost
from .ports.signals import StoreSignals
from .ports.storage import SessionStoreCreateRequest, SessionStoreFactory
from .ports.turn_ledger import RequiredWiring, StoredUnfinishedTurn
from .runtime.environment import RuntimeEnvironment
from .runtime.hearing import hear_of_accepted_turns, hear_of_left_turns
from .runtime.lash_runtime import LashRuntime, SessionBinding, knows_provider
from .runtime.recovery import RecoveryDriver, UnfinishedTurn, all_unfinished, as_seen
from .runtime.running_turns import RunningTurn
from .runtime.turn.stored_request import missing_wiring, request_of_row
from .wiring import CoreWiring


class CoreRecovery:
    """Finishes and lists unfinished turns with what a core is wired with."""

    def __init__(
        self, wiring: CoreWiring, env: RuntimeEnvironment, stores: SessionStoreFactory
    ) -> None:
        self._wiring = wiring
        self._env = env
        self._stores = stores

    def start(self, signals: StoreSignals | None) -> None:
        """Finish turns from now on, where turns are journaled at all."""
        env, stores = self._env, self._stores
        if not isinstance(env.effect_host, EmbeddedEffectHost):
            return
        if stores.durability_tier is DurabilityTier.INLINE:
            return
        driver = RecoveryDriver(
            stores=stores,
            clock=env.clock,
            tasks=env.tasks,
            lanes=env.lanes,
            owner=self._wiring.new_owner(),
            missing=self.missing,
            finish=self._finish,
        )
        driver.start(env.bell)
        if signals is not None:
            accepted = hear_of_accepted_turns(
                signals, driver.poke, lease_ttl_ms=env.keeper.timings.ttl_ms
            )
            env.tasks.start(accepted, name="lash-recovery-accepted")
            env.tasks.start(hear_of_left_turns(signals, driver.poke), name="lash-recovery-left")

    def missing(self, required: RequiredWiring) -> tuple[str, ...]:
        """What the core does not have of that wiring, in words."""
        has_provider = partial(knows_provider, self._wiring.resolver)
        return missing_wiring(required, self._env, has_provider)

    async def unfinished(self) -> Sequence[UnfinishedTurn]:
        now_ms = self._env.clock.timestamp_ms()
        return [
            as_seen(turn, self.missing(turn.required_wiring), now_ms)
            async for turn in all_unfinished(self._stores)
        ]

    async def _finish(self, turn: StoredUnfinishedTurn) -> None:
        request = SessionStoreCreateRequest(session_id=turn.session_id)
        store = await self._stores.open_existing_store(request)
        if store is None:
            return
        runtime = LashRuntime(
            env=self._env,
            binding=SessionBinding(
                session_id=turn.session_id,
                store=store,
                policy=self._wiring.policy,
                host_prompt=False,
            ),
            resolver=self._wiring.resolver,
            owner=self._wiring.new_owner(),
        )
        try:
            row = await store.load_turn(turn.session_id, turn.turn_id)
            if row is None or row.state.is_settled:
                return
            finished = RunningTurn(runtime, request_of_row(row), None, left=True)
            await finished.settled()
            finished.outcome()
        finally:
            runtime.cell.release()
