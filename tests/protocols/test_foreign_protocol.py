"""A protocol of a host's own: everything about how a turn goes on is behind one port."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from facade.places import running
from facade.transcripts import lines
from lash_runtime import (
    BuiltinEntry,
    LashCore,
    MessageRole,
    PromptBuiltin,
    PromptLayer,
    PromptSection,
    PromptTemplate,
    StopReason,
    tool,
)
from lash_runtime.kernel.machine.actions import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    Emit,
    Finish,
    StartCheckpoint,
    StartLlm,
)
from lash_runtime.kernel.machine.driver import MachineView, ProtocolDriver
from lash_runtime.kernel.machine.effects import ExecResponse
from lash_runtime.kernel.machine.states import FinishWith
from lash_runtime.model.checkpoints import CheckpointKind
from lash_runtime.model.llm import LlmResponse, TextBlock
from lash_runtime.model.messages import text_message
from lash_runtime.model.nodes import ConversationRecord
from lash_runtime.model.outcome import answered, stopped
from lash_runtime.model.session_events import TextDeltaEvent
from lash_runtime.model.tool_results import CompletedToolCall
from lash_runtime.ports.protocol import TurnProtocol
from lash_runtime.protocols.standard import StandardProtocol
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio

REVIEW = "Read your draft again, then give the final text."


class DraftsTwice:
    """Asks the model to look over its own draft before the turn ends. It calls no tools."""

    def prepare_protocol_iteration(self, view: MachineView) -> Sequence[DriverAction]:
        return (StartLlm(view.llm_request(offer_tools=False)),)

    def handle_llm_response(
        self, view: MachineView, response: LlmResponse, text_streamed: bool, driver_state: Any
    ) -> Sequence[DriverAction]:
        said = text_message(view.message_id("assistant"), MessageRole.ASSISTANT, response.full_text)
        actions: list[DriverAction] = [AppendEvents((ConversationRecord.of(said),))]
        if not text_streamed:
            actions.insert(0, Emit(TextDeltaEvent(response.full_text)))
        if view.iteration == 0:
            review = text_message(view.message_id("review"), MessageRole.SYSTEM, REVIEW)
            actions += [
                AppendEvents((ConversationRecord.of(review),)),
                AdvanceProtocolIteration(),
            ]
            return actions
        end = FinishWith(answered(response.full_text))
        return [*actions, StartCheckpoint(CheckpointKind.BEFORE_COMPLETION, end)]

    def handle_tool_results(
        self, view: MachineView, results: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        return (Finish(stopped(StopReason.RUNTIME_ERROR)),)

    def handle_exec_result(
        self, view: MachineView, result: ExecResponse | str, driver_state: Any
    ) -> Sequence[DriverAction]:
        return (Finish(stopped(StopReason.RUNTIME_ERROR)),)


class Drafting:
    """Shares nothing with the standard protocol, not even a base class."""

    id = "drafting"
    sync_execution_environment = False
    preamble = PromptLayer()

    def __init__(self) -> None:
        self.driver: ProtocolDriver = DraftsTwice()
        self.asked_for: list[Collection[str]] = []

    def execution_prompt(self, tool_names: Collection[str]) -> str:
        self.asked_for.append(tuple(tool_names))
        return "Write a draft first."


@tool
async def look() -> str:
    """Look."""
    return "seen"


def is_a_protocol(protocol: TurnProtocol) -> TurnProtocol:
    return protocol


def test_both_are_protocols_to_a_type_checker() -> None:
    """The port is what both have in common; nothing inherits from it."""
    assert is_a_protocol(StandardProtocol()).id == "standard_protocol"
    assert is_a_protocol(Drafting()).id == "drafting"


async def test_a_protocol_of_the_hosts_own_drives_the_turns_of_a_core(tmp_path: Path) -> None:
    """From the prompt to the last message, without a line of the standard one."""
    protocol = Drafting()
    provider = ScriptedProvider([Call.text("A coat."), Call.text("A warm coat.")])
    core = (
        LashCore.builder()
        .protocol(protocol)
        .provider(provider)
        .model("m")
        .tools(look)
        .storage(SqliteStorage(tmp_path / "agents.db"))
        .build()
    )
    async with running(core), core.session("s") as session:
        output = await session.turn("What should I pack?").run()

        assert output.assistant_message == "A warm coat."
        assert lines(session) == [
            "user: What should I pack?",
            "assistant: A coat.",
            f"system: {REVIEW}",
            "assistant: A warm coat.",
        ]
    first, second = provider.requests
    assert first.tools == ()
    assert "Write a draft first." in str(first.messages[0])
    assert REVIEW in str(second.messages)
    assert ("look",) in protocol.asked_for


async def test_it_may_take_the_place_of_the_standard_one() -> None:
    """On a builder that had one already: the last word counts."""
    provider = ScriptedProvider([Call.text("A coat."), Call.text("A warm coat.")])
    core = LashCore.standard_builder().provider(provider).model("m").protocol(Drafting()).build()
    async with running(core), core.session("s") as session:
        output = await session.turn("What should I pack?").run()
    assert output.assistant_message == "A warm coat."


async def test_a_preamble_of_its_own_is_the_outermost_prompt() -> None:
    """What a host sets lies over it."""

    instructions = BuiltinEntry(builtin=PromptBuiltin.EXECUTION_INSTRUCTIONS)

    class Bare(Drafting):
        preamble = PromptLayer(
            template=PromptTemplate(sections=(PromptSection(entries=(instructions,)),))
        )

    provider = ScriptedProvider([Call.text("A."), Call.text("B.")])
    core = LashCore.standard_builder().provider(provider).model("m").protocol(Bare()).build()
    async with running(core), core.session("s") as session:
        await session.turn("Hm?").run()
    assert provider.requests[0].messages[0].blocks == (TextBlock("Write a draft first."),)
