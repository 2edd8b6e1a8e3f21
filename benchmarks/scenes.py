"""Cores and models that the measures share."""

from collections.abc import Sequence
from pathlib import Path

from lash_runtime import FunctionTool, LashCore
from lash_runtime.effects.inline import InlineEffectHost
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import ScriptedProvider, text_response

ANSWER = "It is mild today, with a light breeze from the west."


def answer(request: LlmRequest) -> LlmResponse:
    return text_response(ANSWER)


def a_core(
    database: Path,
    provider: ScriptedProvider | None = None,
    tools: Sequence[FunctionTool] = (),
    *,
    journal: bool = True,
) -> LashCore:
    """A durable core over `database`; its model answers with one sentence unless told more."""
    builder = (
        LashCore.standard_builder()
        .provider(provider or ScriptedProvider(otherwise=answer, record=False))
        .model("scripted")
        .storage(SqliteStorage(database))
        .tools(*tools)
    )
    return (builder if journal else builder.effect_host(InlineEffectHost())).build()
