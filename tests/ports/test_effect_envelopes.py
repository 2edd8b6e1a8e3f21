"""Envelopes: what is refused when one is made, and the hash that tells two of them apart."""

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from lash_runtime.model.attachments import AttachmentRef, ImageFormat, MediaType
from lash_runtime.model.canonical import canonical_hash
from lash_runtime.model.causes import (
    EffectRef,
    ProcessEventRef,
    ProcessRef,
    SessionNodeRef,
    TriggerOccurrenceRef,
    TurnRef,
)
from lash_runtime.model.checkpoints import CheckpointKind
from lash_runtime.model.llm import (
    GenerationOptions,
    LlmAttachment,
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmRole,
)
from lash_runtime.ports.await_events import CustomWait, mint_await_event_key
from lash_runtime.ports.effects import (
    AwaitEventCommand,
    CheckpointCommand,
    DirectCommand,
    DurableStepCommand,
    EffectControllerError,
    EffectSubject,
    ExecCodeCommand,
    LlmCallCommand,
    ProcessEventSubject,
    ProcessScope,
    ProcessSubject,
    RuntimeEffectCommand,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeInvocation,
    RuntimeScope,
    RuntimeSubject,
    SessionNodeSubject,
    SleepCommand,
    SyncExecutionEnvironmentCommand,
    ToolAttemptCommand,
    ToolBatchChild,
    ToolBatchCommand,
    TriggerOccurrenceSubject,
    turn_effect_key,
)
from lash_runtime.ports.tools import PreparedToolCall

SCOPE = RuntimeScope(session_id="s", turn_id="t", turn_index=1, protocol_iteration=0)
REQUEST = LlmRequest(
    model="m",
    messages=(LlmMessage.text(LlmRole.USER, "Grüße 👋"),),
    scope=LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r"),
)
CALL = PreparedToolCall(call_id="c", tool_id="id", tool_name="look", args={"b": 1, "a": [None]})
KEY = mint_await_event_key(ProcessScope(process_id="p"), CustomWait(key="k"), b"secret")

COMMANDS: list[RuntimeEffectCommand] = [
    LlmCallCommand(REQUEST),
    DirectCommand(REQUEST, "llm_query"),
    ToolAttemptCommand(CALL, 1, 3),
    ToolBatchCommand("b", (ToolBatchChild(CALL, "child:0:c"),)),
    ExecCodeCommand("python", "print(1)"),
    CheckpointCommand(CheckpointKind.AFTER_WORK),
    SyncExecutionEnvironmentCommand(True),
    SleepCommand(5),
    AwaitEventCommand(KEY),
    DurableStepCommand("charge", {"amount": 3}),
]


def enveloped(command: RuntimeEffectCommand, **changes: Any) -> RuntimeEffectEnvelope:
    invocation = RuntimeInvocation(
        scope=SCOPE, subject=EffectSubject("1", command.type), replay_key="key"
    )
    return RuntimeEffectEnvelope(replace(invocation, **changes), command)


def code_of(make: Any) -> str:
    with pytest.raises(EffectControllerError) as raised:
        make()
    return raised.value.code


# --- what an envelope has to say ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"subject": ProcessSubject("p")}, "runtime_effect_invocation_subject"),
        (
            {"subject": EffectSubject(" ", RuntimeEffectKind.SLEEP)},
            "runtime_effect_invocation_subject",
        ),
        (
            {"subject": EffectSubject("1", RuntimeEffectKind.LLM_CALL)},
            "runtime_effect_invocation_kind",
        ),
        ({"replay_key": None}, "runtime_effect_replay_required"),
        ({"replay_key": ""}, "runtime_effect_replay_required"),
    ],
)
def test_an_invocation_that_does_not_fit_its_command_is_refused(
    changes: dict[str, Any], code: str
) -> None:
    """A record under a wrong key or kind would answer somebody else's question."""
    assert code_of(lambda: enveloped(SleepCommand(1), **changes)) == code


BLANK = PreparedToolCall(call_id=" ", tool_id="id", tool_name="look", args={})


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (DurableStepCommand(" ", None), "durable_step_id"),
        (ToolAttemptCommand(BLANK, 1, 1), "tool_attempt_call_id"),
        (ToolAttemptCommand(CALL, 0, 1), "tool_attempt_index"),
        (ToolAttemptCommand(CALL, 2, 1), "tool_attempt_index"),
        (ToolBatchCommand("", (ToolBatchChild(CALL, "child:0:c"),)), "tool_batch_id"),
        (ToolBatchCommand("b", ()), "tool_batch_empty"),
        (ToolBatchCommand("b", (ToolBatchChild(BLANK, "child:0:c"),)), "tool_batch_call_id"),
        (ToolBatchCommand("b", (ToolBatchChild(CALL, " "),)), "tool_batch_call_replay"),
    ],
)
def test_a_command_without_what_tells_it_from_others_is_refused(
    command: RuntimeEffectCommand, code: str
) -> None:
    """Two calls of one round under one key would share one result."""
    assert code_of(lambda: enveloped(command)) == f"runtime_effect_{code}"


def test_every_kind_but_a_process_command_can_be_asked_for() -> None:
    """A kind that is added without a command is noticed here."""
    asked = {command.type for command in COMMANDS}
    assert set(RuntimeEffectKind) - asked == {RuntimeEffectKind.PROCESS}


# --- the hash -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.type.value)
def test_a_hash_survives_the_way_through_json(command: RuntimeEffectCommand) -> None:
    """What was stored and read back has to be recognised."""
    envelope = enveloped(command, caused_by=TurnRef(session_id="s", turn_id="t"))
    read_back = json.loads(json.dumps(envelope.document()))
    assert canonical_hash(read_back) == envelope.stable_hash()


def test_all_commands_hash_apart() -> None:
    """Also those that have the same fields."""
    assert len({enveloped(command).stable_hash() for command in COMMANDS}) == len(COMMANDS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (DurableStepCommand("x", {"a": 1}), DurableStepCommand("x", {"a": 2})),
        (DurableStepCommand("x", {"a": None}), DurableStepCommand("x", {})),
        (ExecCodeCommand("python", "1"), ExecCodeCommand("python", "2")),
        (LlmCallCommand(REQUEST), LlmCallCommand(replace(REQUEST, model="n"))),
        (
            LlmCallCommand(REQUEST),
            LlmCallCommand(replace(REQUEST, generation=GenerationOptions(output_token_cap=5))),
        ),
        (
            ToolAttemptCommand(CALL, 1, 3),
            ToolAttemptCommand(CALL.model_copy(update={"args": {"a": 1}}), 1, 3),
        ),
    ],
)
def test_any_change_of_what_is_asked_changes_the_hash(
    one: RuntimeEffectCommand, other: RuntimeEffectCommand
) -> None:
    """A changed program must not be answered with the old program's record."""
    assert enveloped(one).stable_hash() != enveloped(other).stable_hash()


def test_the_key_is_part_of_the_hash() -> None:
    """The same question at another place is another question."""
    command = SleepCommand(1)
    other = enveloped(command, replay_key="other")
    assert enveloped(command).stable_hash() != other.stable_hash()


def test_who_listens_and_whether_bytes_are_at_hand_change_nothing() -> None:
    """A second run has other callbacks, and an image that it has not read yet."""
    ref = AttachmentRef(id="a" * 64, media_type=MediaType(type=ImageFormat.PNG), byte_len=3)
    plain = replace(REQUEST, attachments=(LlmAttachment(mime="image/png", reference=ref),))
    live = replace(
        plain,
        attachments=(LlmAttachment(mime="image/png", data=b"png", reference=ref),),
        stream_events=lambda event: None,
        attempt_ended=lambda record: None,
    )
    assert (
        enveloped(LlmCallCommand(plain)).stable_hash()
        == enveloped(LlmCallCommand(live)).stable_hash()
    )
    assert "data" not in json.dumps(enveloped(LlmCallCommand(live)).document())


def test_an_image_that_is_nowhere_stored_cannot_be_on_record() -> None:
    """Its bytes would have to be, and records hold references."""
    request = replace(REQUEST, attachments=(LlmAttachment(mime="image/png", data=b"png"),))
    envelope = enveloped(LlmCallCommand(request))
    assert code_of(envelope.stable_hash) == "runtime_effect_attachment_missing_reference"


@pytest.mark.parametrize("value", [float("nan"), object(), b"bytes", {1, 2}])
def test_what_is_no_json_has_no_hash(value: Any) -> None:
    """It could not be compared with what is stored."""
    envelope = enveloped(DurableStepCommand("x", {"value": value}))
    assert code_of(envelope.stable_hash) == "runtime_effect_envelope_hash"


def test_the_order_in_which_arguments_were_written_changes_nothing() -> None:
    """A JSON object has none."""
    one = DurableStepCommand("x", {"a": 1, "b": (1, 2)})
    other = DurableStepCommand("x", {"b": [1, 2], "a": 1})
    assert enveloped(one).stable_hash() == enveloped(other).stable_hash()


GOLDEN = "ce4c24ae6481a320ec1b954ca06158544929174d34609bb506a3d26232c7cd8c"


def test_hashes_stay_what_they_are() -> None:
    """They get stored: a change here makes a stranger of every turn in flight at an upgrade."""
    assert canonical_hash([enveloped(command).stable_hash() for command in COMMANDS]) == GOLDEN


def test_another_interpreter_comes_to_the_same_hash() -> None:
    """With another seed for the hashes of strings."""
    program = (
        "from lash_runtime.ports.effects import *\n"
        "invocation = RuntimeInvocation(scope=RuntimeScope(session_id='s'), replay_key='k',"
        " subject=EffectSubject('1', RuntimeEffectKind.DURABLE_STEP))\n"
        "command = DurableStepCommand('x', {'b': 1, 'a': {'d': [], 'c': None}})\n"
        "print(RuntimeEffectEnvelope(invocation, command).stable_hash())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1


# --- invocations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "ref"),
    [
        (
            EffectSubject("1", RuntimeEffectKind.SLEEP),
            EffectRef(session_id="s", turn_id="t", effect_id="1"),
        ),
        (ProcessSubject("p"), ProcessRef(process_id="p")),
        (ProcessEventSubject("p", 3, "done"), ProcessEventRef(process_id="p", sequence=3)),
        (TriggerOccurrenceSubject("o"), TriggerOccurrenceRef(occurrence_id="o")),
        (SessionNodeSubject("n"), SessionNodeRef(session_id="s", node_id="n")),
    ],
)
def test_an_invocation_can_be_named_as_a_cause(subject: RuntimeSubject, ref: Any) -> None:
    """Whatever follows from it points back at it."""
    invocation = RuntimeInvocation(scope=SCOPE, subject=subject)
    assert invocation.causal_ref() == ref
    is_effect = isinstance(subject, EffectSubject)
    assert (invocation.effect_id is not None) is is_effect
    assert (invocation.effect_kind is not None) is is_effect
    assert invocation.replay_key is None


def test_the_key_of_a_turns_effect_is_spelled_out() -> None:
    """Records of turns in flight are found under it after an upgrade."""
    assert turn_effect_key(SCOPE, RuntimeEffectKind.LLM_CALL, "3") == "s:t:1:0:llm_call:3"
