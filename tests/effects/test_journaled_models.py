"""Model calls under a journal: what is on record of them, and when, and what a change means."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from lash_runtime.effects.journal import JournalEffectController
from lash_runtime.effects.journal.outcomes import decode_outcome, encode_outcome
from lash_runtime.model.llm import (
    GenerationOptions,
    JsonObjectOutput,
    LlmCallError,
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmResponse,
    LlmRole,
    LlmTerminalReason,
    LlmToolChoice,
    LlmToolSpec,
    TextOutput,
    ToolCallOutputPart,
)
from lash_runtime.model.records import replace
from lash_runtime.model.schema import OPEN_OBJECT_SCHEMA
from lash_runtime.ports.effects import (
    EffectControllerError,
    LlmCallCommand,
    LlmCallOutcome,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
)
from lash_runtime.ports.journal import EffectRecorded, EffectReserved
from lash_runtime.testing import MemoryEffectJournal, text_response
from lash_runtime.testing.conformance._effect_samples import (
    Works,
    a_call,
    an_effect,
    answered,
    ran,
    succeeded,
)

pytestmark = pytest.mark.anyio

LOOK = LlmToolSpec(name="look", description="Look.", input_schema=OPEN_OBJECT_SCHEMA)
PAY = LlmToolSpec(name="pay", description="Pay.", input_schema=OPEN_OBJECT_SCHEMA)


def said(role: LlmRole, text: str) -> LlmMessage:
    return LlmMessage.text(role, text)


REQUEST = LlmRequest(
    model="m1",
    messages=(
        said(LlmRole.SYSTEM, "Be brief."),
        said(LlmRole.USER, "old"),
        said(LlmRole.ASSISTANT, "yes"),
        said(LlmRole.USER, "hello"),
    ),
    tools=(LOOK,),
    scope=LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r"),
)


def longer(request: LlmRequest, *texts: str) -> LlmRequest:
    """The request of the next round: the transcript has grown."""
    grown = [said(LlmRole.ASSISTANT, text) for text in texts]
    return replace(request, messages=(*request.messages, *grown))


ROUNDS = (REQUEST, longer(REQUEST, "one"), longer(REQUEST, "one", "two"))


class Turn:
    """A turn that calls its model and a tool in turn, one process after another."""

    def __init__(self) -> None:
        self.journal = MemoryEffectJournal()
        self.controller = JournalEffectController(self.journal)

    def next_life(self) -> None:
        self.journal = self.journal.next_run()
        self.controller = JournalEffectController(self.journal)

    async def call(self, request: LlmRequest, executor: Works, number: int = 1) -> Any:
        return await self.controller.execute_effect(
            an_effect(LlmCallCommand(request), str(number)), executor
        )

    async def work(self, at: int = 0) -> None:
        """A round of tools, with which everything before it is on record."""
        await ran(self.controller, (a_call(at=at), Works(succeeded())))

    async def run(self, requests: Sequence[LlmRequest]) -> list[Works]:
        """The model's calls of a turn, and a tool at its end."""
        executors = [Works(answered(f"answer {at}")) for at, _ in enumerate(requests)]
        for at, (request, executor) in enumerate(zip(requests, executors, strict=True)):
            # The round of tools has the number 2.
            await self.call(request, executor, 10 + at)
        await self.work(len(requests))
        return executors


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, logger="lash_runtime")
    return caplog


class TestWhatIsWritten:
    async def test_a_model_call_alone_writes_nothing(self) -> None:
        """A turn without tools costs its acceptance and its commit."""
        turn = Turn()
        await turn.run(())
        turn = Turn()
        await turn.call(REQUEST, Works(answered()))
        assert turn.journal.transactions == []

    async def test_its_answer_rides_on_the_first_write_after_it(self) -> None:
        """Before what it has led to, so that a record reads in the order of the turn."""
        turn = Turn()
        await turn.call(REQUEST, Works(answered()))
        await turn.work()
        first, second = turn.journal.transactions
        assert [(type(write), write.effect.subject) for write in first] == [
            (EffectRecorded, "m1"),
            (EffectReserved, "pay"),
        ]
        assert [type(write) for write in second] == [EffectRecorded]

    async def test_the_request_is_no_part_of_the_record(self) -> None:
        """The transcript is not copied: what was asked is there as a few short hashes."""
        secret = "a body with the whole transcript"
        for result in (
            replace(text_response("fine"), request_body=secret),
            LlmCallError(message="no", request_body=secret),
        ):
            turn = Turn()
            await turn.call(REQUEST, Works(LlmCallOutcome(result, False)))
            await turn.work()
            model, _ = turn.journal.entries
            assert model.outcome is not None
            assert secret not in model.outcome
            assert "hello" not in repr(model.effect)
            assert set(model.effect.components) == {"history", "prompt", "tools", "options"}
            assert all(len(each) < 30 for each in model.effect.components.values())

    async def test_a_cancelled_call_is_not_on_record(self) -> None:
        """Nothing has come of it, and the next process may well call again."""
        turn = Turn()
        cancelled = LlmCallError(
            message="cancelled", code="cancelled", terminal_reason=LlmTerminalReason.CANCELLED
        )
        await turn.call(REQUEST, Works(LlmCallOutcome(cancelled, False)))
        await turn.work()
        turn.next_life()
        again = Works(answered("again"))
        assert await turn.call(REQUEST, again) == answered("again")

    async def test_an_answer_that_no_utf_8_can_hold_is_on_record_as_it_came(self) -> None:
        """A model may stop in the middle of a surrogate pair, in its words and in an id."""
        odd = "half a \ud83d"
        outcome = LlmCallOutcome(
            LlmResponse(
                full_text=odd,
                parts=(
                    TextOutput(odd),
                    ToolCallOutputPart("c\ud83d", "pay\x00", '{"a": "\ud83d"}'),
                ),
            ),
            False,
        )
        turn = Turn()
        await turn.call(REQUEST, Works(outcome))
        await turn.work()
        model, _ = turn.journal.entries
        assert model.outcome is not None
        model.outcome.encode()
        turn.next_life()
        assert await turn.call(REQUEST, Works(answered())) == outcome

    @pytest.mark.parametrize(
        "odd",
        [object(), b"\xff", {"details": object()}, {1, 2}],
        ids=lambda odd: type(odd).__name__,
    )
    async def test_what_an_adapter_adds_that_is_no_json_is_left_out(self, odd: object) -> None:
        """The answer is what counts, and it must not be lost for it."""
        turn = Turn()
        response = replace(text_response("fine"), provider_usage=odd)
        await turn.call(REQUEST, Works(LlmCallOutcome(response, False)))
        await turn.work()
        turn.next_life()
        outcome = await turn.call(REQUEST, Works(answered()))
        assert isinstance(outcome, LlmCallOutcome)
        assert isinstance(outcome.result, LlmResponse)
        assert outcome.result.full_text == "fine"

    async def test_a_record_that_cannot_be_read_says_so_without_its_text(self) -> None:
        """What is on record may be secret, and a release may meet what a later one wrote."""
        turn = Turn()
        await turn.call(REQUEST, Works(answered()))
        await turn.work()
        model, _ = turn.journal.entries
        for text in ('{"secret": 1}', "secret", "", "[]"):
            broken = MemoryEffectJournal([replace(model, outcome=text)])
            turn.controller = JournalEffectController(broken)
            executor = Works(answered())
            with pytest.raises(EffectControllerError) as raised:
                await turn.call(REQUEST, executor)
            assert raised.value.code == "runtime_effect_outcome_decode"
            assert "secret" not in str(raised.value)
            assert raised.value.__cause__ is None
            assert executor.runs == []


class TestRequestsThatHaveChanged:
    async def test_the_same_turn_again_warns_of_nothing(
        self, warnings: pytest.LogCaptureFixture
    ) -> None:
        """However far the process before has come, and the one before that."""
        turn = Turn()
        await turn.run(ROUNDS[:1])
        for known in (1, 2, 3, 3):
            turn.next_life()
            executors = await turn.run(ROUNDS[:known])
            assert all(executor.runs == [] for executor in executors[: known - 1])
        assert warnings.messages == []

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            (
                replace(
                    REQUEST, messages=(said(LlmRole.SYSTEM, "Be kind."), *REQUEST.messages[1:])
                ),
                "prompt",
            ),
            (replace(REQUEST, tools=(LOOK, PAY)), "tools"),
            (replace(REQUEST, tools=(replace(LOOK, description="Look well."),)), "tools"),
            (replace(REQUEST, model="m2"), "options"),
            (replace(REQUEST, model_variant="high"), "options"),
            (replace(REQUEST, tool_choice=LlmToolChoice.REQUIRED), "options"),
            (replace(REQUEST, generation=GenerationOptions(output_token_cap=5)), "options"),
            (replace(REQUEST, output_spec=JsonObjectOutput()), "options"),
            (
                replace(REQUEST, messages=(*REQUEST.messages[:-1], said(LlmRole.USER, "good day"))),
                "history",
            ),
            (longer(REQUEST, "and"), "history"),
            (
                replace(longer(REQUEST, "and"), tools=(), model="m2"),
                "history, tools, options",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_what_has_changed_is_named_and_the_record_wins(
        self, warnings: pytest.LogCaptureFixture, changed: LlmRequest, named: str
    ) -> None:
        """A new release asks a little differently: its operator may want to know."""
        turn = Turn()
        await turn.call(REQUEST, Works(answered("first")))
        await turn.work()
        turn.next_life()
        executor = Works(answered("second"))
        assert await turn.call(changed, executor) == answered("first")
        assert executor.runs == []
        (message,) = warnings.messages
        assert message.endswith(f"another request: {named} differ")
        assert "s:t1:1:0:llm_call:1" in message

    async def test_a_change_in_the_middle_shows_from_there_on(
        self, warnings: pytest.LogCaptureFixture
    ) -> None:
        """The history is a chain: what comes after a difference differs, too."""
        turn = Turn()
        await turn.run(ROUNDS)
        turn.next_life()
        await turn.run((ROUNDS[0], longer(REQUEST, "other"), longer(REQUEST, "other", "two")))
        assert [message.partition(" was given")[0][-2:] for message in warnings.messages] == [
            "11",
            "12",
        ]

    async def test_a_turn_on_another_revision_has_another_history(
        self, warnings: pytest.LogCaptureFixture
    ) -> None:
        """What was there before the turn is told by the revision that it started on."""
        turn = Turn()
        await turn.call(REQUEST, Works(answered()))
        await turn.work()
        moved = MemoryEffectJournal(turn.journal.entries, base="t:7")
        turn.controller = JournalEffectController(moved)
        await turn.call(REQUEST, Works(answered()))
        (message,) = warnings.messages
        assert "history differ" in message


def test_an_outcome_is_what_it_was_by_type() -> None:
    """An error with few fields is not taken for an empty answer."""
    outcomes: list[RuntimeEffectOutcome] = [
        LlmCallOutcome(LlmCallError(message=""), False),
        LlmCallOutcome(LlmResponse(), False),
        LlmCallOutcome(
            LlmCallError(message="m", terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW), True
        ),
    ]
    for outcome in outcomes:
        text = encode_outcome(RuntimeEffectKind.LLM_CALL, outcome)
        assert decode_outcome(RuntimeEffectKind.LLM_CALL, text) == outcome
