"""What a controller gets to keep of a model call: its answer, and every attempt at it."""

import anyio
import pytest

from lash_runtime import CancelToken, LashCore
from lash_runtime.effects.inline import InlineEffectHost, InlineRuntimeEffectController
from lash_runtime.model.llm import LlmCallError
from lash_runtime.model.llm_attempts import AttemptOutcome, LlmCallRecord
from lash_runtime.ports.effects import (
    LlmCallOutcome,
    LocalEffectExecutor,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
)
from lash_runtime.ports.provider import (
    Provider,
    ProviderFailure,
    ProviderOptions,
    ProviderReliability,
    ProviderRetryPolicy,
)
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing import Call, GatedProvider, ScriptedProvider, TestProvider, usage

pytestmark = pytest.mark.anyio


class Keeping(InlineRuntimeEffectController):
    """Keeps what came of each model call."""

    def __init__(self) -> None:
        self.calls: list[LlmCallOutcome] = []
        self.keys: list[str] = []

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        outcome = await super().execute_effect(envelope, executor)
        if isinstance(outcome, LlmCallOutcome):
            self.calls.append(outcome)
            self.keys.append(envelope.invocation.replay_key)
        return outcome

    @property
    def record(self) -> LlmCallRecord:
        (call,) = self.calls
        assert call.record is not None
        return call.record


def a_core(provider: Provider, keeping: Keeping, **model: int) -> LashCore:
    return (
        LashCore.standard_builder()
        .provider(provider)
        .model("asked-1", **model)
        .storage(MemoryStorage())
        .effect_host(InlineEffectHost(keeping))
        .build()
    )


async def test_the_outcome_of_a_call_names_every_attempt() -> None:
    """A journal that keeps the outcome keeps with it what was tried and what it cost."""
    keeping = Keeping()
    options = ProviderOptions(
        reliability=ProviderReliability(retry=ProviderRetryPolicy(base_delay_ms=0, max_delay_ms=0))
    )
    provider = ScriptedProvider(
        [ProviderFailure("reset", retryable=True), Call.text("Coat.", usage=usage(3, 1))],
        options=options,
    )
    async with a_core(provider, keeping) as core, core.session("s") as session:
        assert (await session.turn("Pack").turn_id("t").run()).is_success

    record = keeping.record
    assert record.call_id == keeping.keys[0]
    assert (record.provider_id, record.model, record.label) == ("scripted", "asked-1", "turn")
    assert [attempt.outcome.value for attempt in record.attempts] == ["failed", "completed"]
    assert record.attempts[1].usage == usage(3, 1)


async def test_a_call_that_fails_for_good_has_its_record_too() -> None:
    """The failure is the outcome; how it came about is in the record."""
    keeping = Keeping()
    provider = ScriptedProvider([ProviderFailure("no", status=400)])
    async with a_core(provider, keeping) as core, core.session("s") as session:
        await session.turn("Pack").run()

    assert isinstance(keeping.calls[0].result, LlmCallError)
    (attempt,) = keeping.record.attempts
    assert attempt.outcome is AttemptOutcome.FAILED


async def test_a_call_that_the_turns_cancel_stopped_was_aborted() -> None:
    """Somebody wanted it to stop, which is not the same as a crash."""
    keeping, provider, token = Keeping(), GatedProvider(), CancelToken()
    async with a_core(provider, keeping) as core, core.session("s") as session:
        async with anyio.create_task_group() as group:
            group.start_soon(session.turn("Pack").cancel(token).run)
            await provider.entered.wait()
            token.cancel()

    assert [attempt.outcome for attempt in keeping.record.attempts] == [AttemptOutcome.ABORTED]


async def test_a_provider_that_cancels_itself_was_interrupted() -> None:
    """Nobody had asked for it."""
    keeping = Keeping()

    async def gives_up(request: object) -> None:
        raise anyio.get_cancelled_exc_class()

    async with a_core(TestProvider(gives_up), keeping) as core, core.session("s") as session:
        await session.turn("Pack").run()

    attempts = keeping.record.attempts
    assert [attempt.outcome for attempt in attempts] == [AttemptOutcome.INTERRUPTED]


async def test_a_call_that_was_refused_before_it_was_made_has_no_attempt() -> None:
    """Nothing was sent, so nothing can have been billed."""
    keeping = Keeping()
    provider = ScriptedProvider(options=ProviderOptions(max_output_tokens=5_000))
    core = a_core(provider, keeping, output_capacity=1_000)
    async with core, core.session("s") as session:
        await session.turn("Pack").run()

    assert keeping.record.attempts == ()
    assert provider.calls == 0
