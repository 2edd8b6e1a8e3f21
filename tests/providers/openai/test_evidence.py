"""What an endpoint says of its own work, and nothing that it was only asked for."""

import pytest

from lash_runtime.model.llm import LlmResponse
from lash_runtime.model.llm_attempts import ExecutionEvidence
from lash_runtime.ports.provider import ProviderFailure
from providers.openai.conversations import a_provider, a_request, streaming
from providers.openai.endpoint import (
    END,
    Script,
    answered,
    delta,
    endpoint,
    event,
    finish,
    head,
    streamed,
)

pytestmark = pytest.mark.anyio

SAID = {"id": "chatcmpl-7", "model": "some-model-2026-04-01"}


async def asked(script: Script, *, stream: bool = True) -> LlmResponse:
    async with endpoint(script) as server, a_provider(server.base_url) as provider:
        return await provider.complete(streaming([]) if stream else a_request())


async def test_a_stream_names_the_model_that_answered_and_its_own_ids() -> None:
    """An alias is asked for; only the answer says what it stood for that day."""
    chunks = [delta(content="Hi") | SAID, finish("stop") | SAID]
    script = [head(headers=[("x-request-id", "req-1")]), *map(event, chunks), END]

    response = await asked(script)

    assert response.evidence == ExecutionEvidence(
        served_model="some-model-2026-04-01",
        provider_response_id="chatcmpl-7",
        provider_request_id="req-1",
        provider_finish_reason="stop",
    )


async def test_an_answer_in_one_piece_says_the_same() -> None:
    """Whatever way it came."""
    choice = {"message": {"content": "Hi"}, "finish_reason": "length"}
    response = await asked(answered({**SAID, "choices": [choice]}), stream=False)

    assert response.evidence is not None
    assert response.evidence.served_model == SAID["model"]
    assert response.evidence.provider_response_id == SAID["id"]
    assert response.evidence.provider_finish_reason == "length"


@pytest.mark.parametrize(("reported", "kept"), [(0, 0), (4, 4), (None, None)])
async def test_no_reasoning_is_not_the_same_as_nothing_said(
    reported: int | None, kept: int | None
) -> None:
    """A counter of zero was counted."""
    details = {} if reported is None else {"reasoning_tokens": reported}
    usage = {"completion_tokens": 5, "completion_tokens_details": details}
    response = await asked(streamed(delta(content="Hi"), finish(usage=usage)))

    assert response.evidence is not None
    assert response.evidence.reasoning_output_tokens == kept


async def test_an_endpoint_that_says_nothing_of_itself_is_not_put_words_in_its_mouth() -> None:
    """Least of all the name of the model that was asked for."""
    response = await asked(streamed(delta(content="Hi", model=7), finish()))

    assert response.evidence == ExecutionEvidence(provider_finish_reason="stop")


async def test_what_had_been_said_when_a_stream_broke_off_is_kept() -> None:
    """The failed attempt can be looked up at the vendor."""
    script = [head(), event(delta(content="Hi") | SAID), END]
    async with endpoint(script) as server, a_provider(server.base_url) as provider:
        with pytest.raises(ProviderFailure) as raised:
            await provider.complete(streaming([]))

    assert raised.value.partial is not None
    assert raised.value.partial.evidence == ExecutionEvidence(
        served_model=SAID["model"], provider_response_id=SAID["id"]
    )
