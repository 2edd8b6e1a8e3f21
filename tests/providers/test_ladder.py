"""When a failed call is repeated, how long is waited, and what a reader of the stream sees."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from lash_runtime.model.llm import (
    AttemptReset,
    LlmRequest,
    LlmResponse,
    LlmStreamEvent,
    ProviderFailureKind,
    RetryStatus,
    TextDelta,
)
from lash_runtime.ports.provider import (
    AfterOutput,
    ProviderFailure,
    ProviderOptions,
    ProviderRateLimitPolicy,
    ProviderReliability,
)
from lash_runtime.providers import ProviderComponents, ProviderHandle
from lash_runtime.testing import (
    Call,
    ManualClock,
    RecordingClock,
    ScriptedProvider,
    TestProvider,
    text_response,
)
from providers.calls import a_handle, a_request, refused, throttled, unavailable

pytestmark = pytest.mark.anyio

OK = text_response("ok")


async def test_a_failure_is_tried_again_with_growing_delays() -> None:
    """Doubled from the base, up to the maximum, without jitter by default."""
    clock = RecordingClock()
    handle, provider = a_handle([unavailable()] * 5 + [OK], clock, max_attempts=6)
    assert await handle.complete(a_request()) == OK
    assert clock.sleeps == [2, 4, 8, 10, 10]
    assert provider.calls == 6


async def test_the_last_failure_is_raised_as_it_was_judged() -> None:
    """The status says retryable, the attempts are used up."""
    clock = RecordingClock()
    handle, provider = a_handle([unavailable()] * 4, clock)
    with pytest.raises(ProviderFailure) as caught:
        await handle.complete(a_request())
    assert (caught.value.kind, caught.value.retryable) == (ProviderFailureKind.HTTP, True)
    assert provider.calls == 4


async def test_a_final_failure_is_not_tried_again() -> None:
    """Repeating a bad request costs time and changes nothing."""
    clock = RecordingClock()
    handle, provider = a_handle([refused(), OK], clock)
    with pytest.raises(ProviderFailure):
        await handle.complete(a_request())
    assert (provider.calls, clock.sleeps) == (1, [])


async def test_throttled_calls_wait_as_asked_without_using_attempts() -> None:
    """Three waits of five seconds and then an answer, with a ladder of two."""
    clock = RecordingClock()
    handle, provider = a_handle([throttled("5")] * 3 + [OK], clock, max_attempts=2)
    assert await handle.complete(a_request()) == OK
    assert (provider.calls, clock.slept) == (4, 15)


async def test_the_budget_for_waiting_ends_the_courtesy() -> None:
    """Two free waits fit into ten seconds; the third climbs the ladder and still waits as told."""
    clock = RecordingClock()
    handle, provider = a_handle(
        [throttled("4")] * 9, clock, max_attempts=2, throttle_wait_budget_ms=10_000
    )
    with pytest.raises(ProviderFailure) as caught:
        await handle.complete(a_request())
    assert (provider.calls, clock.slept) == (4, 12)
    assert (caught.value.kind, caught.value.retryable) == (ProviderFailureKind.QUOTA, True)


async def test_courtesy_is_granted_eight_times_at_most() -> None:
    """An endpoint that throttles for ever must not hold a call for ever."""
    clock = RecordingClock()
    handle, provider = a_handle([throttled("1")] * 20, clock, max_attempts=1)
    with pytest.raises(ProviderFailure):
        await handle.complete(a_request())
    assert (provider.calls, clock.slept) == (9, 8)


async def test_a_wait_of_nothing_does_not_spin() -> None:
    """`Retry-After: 0` climbs the ladder and waits its delay."""
    clock = RecordingClock()
    handle, provider = a_handle([throttled("0")] * 9, clock, max_attempts=3)
    with pytest.raises(ProviderFailure):
        await handle.complete(a_request())
    assert (provider.calls, clock.sleeps) == (3, [2, 4])


async def test_throttling_without_a_stated_wait_uses_attempts() -> None:
    """There is nothing to defer to."""
    clock = RecordingClock()
    handle, provider = a_handle([throttled()] * 9, clock, max_attempts=2)
    with pytest.raises(ProviderFailure):
        await handle.complete(a_request())
    assert (provider.calls, clock.sleeps) == (2, [2])


async def test_another_failure_that_states_a_wait_uses_attempts() -> None:
    """Only throttling is free; the wait is honoured all the same."""
    clock = RecordingClock()
    handle, provider = a_handle([unavailable("7")] * 9, clock, max_attempts=2)
    with pytest.raises(ProviderFailure):
        await handle.complete(a_request())
    assert (provider.calls, clock.sleeps) == (2, [7])


@pytest.mark.parametrize("stated", ["3600", "9" * 400])
async def test_an_absurd_wait_is_cut_to_the_cap(stated: str) -> None:
    """A header is not believed beyond what the host allows, and must not overflow."""
    clock = RecordingClock()
    handle, _ = a_handle([throttled(stated), OK], clock)
    await handle.complete(a_request())
    assert clock.sleeps == [60]


async def test_without_a_cap_an_absurd_wait_exceeds_the_budget() -> None:
    """It is then an ordinary retry, of which there is none here."""
    clock = RecordingClock()
    handle, _ = a_handle([throttled("9" * 400)], clock, max_attempts=1, retry_after_cap_ms=None)
    with pytest.raises(ProviderFailure):
        await handle.complete(a_request())
    assert clock.sleeps == []


async def test_jitter_is_added_within_its_bound_and_repeats_with_its_seed() -> None:
    """Callers that failed together must not come back together."""
    slept = []
    for seed in (1, 1, 2):
        clock = RecordingClock()
        handle, _ = a_handle([unavailable(), OK], clock, seed=seed, jitter_ms=500)
        await handle.complete(a_request())
        slept.append(clock.slept)
    assert slept[0] == slept[1] != slept[2]
    assert all(2 <= seconds <= 2.5 for seconds in slept)


async def test_disabled_retries_mean_one_attempt() -> None:
    """Also for throttling."""
    clock = RecordingClock()
    handle, provider = a_handle([throttled("5"), OK], clock, enabled=False)
    with pytest.raises(ProviderFailure):
        await handle.complete(a_request())
    assert (provider.calls, clock.sleeps) == (1, [])


async def test_a_reader_is_told_to_forget_the_failed_attempt() -> None:
    """Otherwise the beginning of the answer would stand there twice."""
    clock = RecordingClock()
    events: list[LlmStreamEvent] = []
    handle, _ = a_handle(
        [Call(stream=[TextDelta("lo")], result=unavailable()), Call.text("lost", chunk=9)], clock
    )
    await handle.complete(a_request(stream_events=events.append))
    assert events == [
        TextDelta("lo"),
        AttemptReset(),
        RetryStatus(wait_seconds=2, attempt=1, max_attempts=4, reason="down"),
        TextDelta("lost"),
    ]


async def test_there_is_nothing_to_forget_when_nothing_was_shown() -> None:
    """A reset without cause would make a reader flicker."""
    events: list[LlmStreamEvent] = []
    handle, _ = a_handle([unavailable("2.9"), OK], RecordingClock())
    await handle.complete(a_request(stream_events=events.append))
    assert events == [RetryStatus(wait_seconds=2, attempt=1, max_attempts=4, reason="down")]


@pytest.mark.parametrize(
    ("failure", "calls"), [(unavailable(), 1), (throttled("5"), 2), (throttled(), 1)]
)
async def test_a_host_may_refuse_to_pay_twice(failure: ProviderFailure, calls: int) -> None:
    """What had begun to answer may be billed; only explicit throttling says that it is not."""
    handle, provider = a_handle(
        [Call(stream=[TextDelta("x")], result=failure), OK],
        RecordingClock(),
        after_output=AfterOutput.DENY,
    )
    request = a_request(stream_events=lambda event: None)
    if calls == 1:
        with pytest.raises(ProviderFailure):
            await handle.complete(request)
    else:
        await handle.complete(request)
    assert provider.calls == calls


async def test_a_failure_before_any_output_is_repeated_even_then() -> None:
    """Nothing was produced, so nothing is paid twice."""
    handle, provider = a_handle([unavailable(), OK], RecordingClock(), after_output="deny")
    await handle.complete(a_request(stream_events=lambda event: None))
    assert provider.calls == 2


async def test_options_are_read_at_the_start_of_a_call() -> None:
    """A change in mid-call must not move the goal."""
    clock = RecordingClock()

    def fail_and_change(request: LlmRequest) -> Exception:
        handle.set_options(ProviderOptions(reliability=ProviderReliability.disabled()))
        return unavailable()

    handle, provider = a_handle([fail_and_change, OK, unavailable()], clock)
    assert await handle.complete(a_request()) == OK
    with pytest.raises(ProviderFailure):
        await handle.complete(a_request())
    assert provider.calls == 3


async def test_a_provider_that_breaks_raises_a_typed_failure() -> None:
    """A bug in an adapter ends the call, not the host; what looks like a key is not repeated."""

    def broken(request: LlmRequest) -> LlmResponse:
        raise KeyError("Authorization: Bearer sk-abcdefghijklmnop")

    handle = TestProvider(broken).into_handle(clock=RecordingClock())
    with pytest.raises(ProviderFailure) as caught:
        await handle.complete(a_request())
    assert (caught.value.code, caught.value.retryable) == ("provider_panicked", False)
    assert "sk-abcdefghijklmnop" not in str(caught.value)
    assert "KeyError" in str(caught.value)


@pytest.mark.parametrize("where", ["in the call", "between two attempts", "in line"])
async def test_cancelling_gives_back_the_permit(where: str) -> None:
    """A permit that is lost starves everyone who comes later."""
    clock = ManualClock()
    gate, entered = anyio.Event(), anyio.Event()
    block = where != "between two attempts"

    async def answer(request: LlmRequest) -> LlmResponse:
        if request.model == "holder":
            if not block:
                raise unavailable()
            entered.set()
            await gate.wait()
        return OK

    options = ProviderOptions(
        reliability=ProviderReliability(rate_limits=ProviderRateLimitPolicy(max_concurrency=1))
    )
    handle = TestProvider(answer, options=options).into_handle(clock=clock)
    async with anyio.create_task_group() as group:
        group.start_soon(handle.complete, a_request(model="holder"))
        if block:
            await entered.wait()
        else:
            await clock.wait_for_sleepers()
        if where == "in line":
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(handle.complete, a_request())
                await checkpoint()
                waiting.cancel_scope.cancel()
            gate.set()
        else:
            group.cancel_scope.cancel()
    with anyio.fail_after(5):
        assert await handle.complete(a_request()) == OK


async def test_a_call_that_waits_to_try_again_holds_no_permit() -> None:
    """One throttled call must not starve its peers."""
    clock = ManualClock()
    provider = ScriptedProvider(
        [unavailable(), OK, OK],
        options=ProviderOptions(
            reliability=ProviderReliability(rate_limits=ProviderRateLimitPolicy(max_concurrency=1))
        ),
    )
    handle = ProviderHandle.of(provider, clock=clock)
    async with anyio.create_task_group() as group:
        group.start_soon(handle.complete, a_request())
        await clock.wait_for_sleepers()
        with anyio.fail_after(5):
            assert await handle.complete(a_request()) == OK
        clock.advance(2)
    assert provider.calls == 3


async def test_a_decorator_sees_every_attempt() -> None:
    """Admission control and metrics sit inside of the ladder."""
    provider = ScriptedProvider([unavailable(), OK])
    seen: list[str] = []

    class Counting(TestProvider):
        async def complete(self, request: LlmRequest) -> LlmResponse:
            seen.append(request.scope.session_id)
            return await provider.complete(request)

    components = ProviderComponents(provider=provider).map_provider(lambda inner: Counting())
    await ProviderHandle(components, clock=RecordingClock()).complete(a_request())
    assert seen == ["s", "s"]


async def test_a_provider_that_must_stream_gets_a_callback() -> None:
    """The caller did not ask for a stream and does not have to know."""
    given: list[object] = []

    def answer(request: LlmRequest) -> LlmResponse:
        given.append(request.stream_events)
        return OK

    await TestProvider(answer, requires_streaming=True).into_handle().complete(a_request())
    await TestProvider(answer).into_handle().complete(a_request())
    assert callable(given[0])
    assert given[1] is None
