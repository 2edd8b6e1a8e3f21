"""The prompt as a host sets it: on the core, on a session, on a turn."""

from collections.abc import Callable
from typing import Any

import pytest

from facade.models import asked
from facade.places import Place, running
from lash_runtime import (
    PromptContribution,
    PromptSection,
    PromptSlot,
    PromptTemplate,
    SlotEntry,
    TextEntry,
)
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio

LEVELS = ("core", "session", "turn")
Change = Callable[[Any], Any]


def guidance(content: str) -> PromptContribution:
    return PromptContribution(slot=PromptSlot.GUIDANCE, content=content)


def unchanged(builder: Any) -> Any:
    return builder


async def prompt_of(place: Place, **changes: Change) -> str:
    """What the model is told first, when each named level is changed so."""
    provider = ScriptedProvider([Call.text("Aye.")])
    change = {level: changes.get(level, unchanged) for level in LEVELS}
    core = change["core"](place.builder(provider)).build()
    async with running(core), change["session"](core.session("s")) as session:
        await change["turn"](session.turn("Speak")).run()
    return asked(provider.requests[0])[0]


async def test_each_level_adds_to_the_ones_around_it(anywhere: Place) -> None:
    """A deployment, a persona and a request each have their say, in that order."""
    prompt = await prompt_of(
        anywhere,
        **{
            level: lambda builder, level=level: builder.prompt_contribution(guidance(f"<{level}>"))
            for level in LEVELS
        },
    )
    assert [prompt.count(f"<{level}>") for level in LEVELS] == [1, 1, 1]
    assert prompt.index("<core>") < prompt.index("<session>") < prompt.index("<turn>")


@pytest.mark.parametrize("level", LEVELS)
async def test_every_level_can_take_the_whole_prompt_over(anywhere: Place, level: str) -> None:
    """The words of the library are a default and no more."""
    template = PromptTemplate(
        sections=(
            PromptSection(
                entries=(
                    TextEntry(content="You are a parrot."),
                    SlotEntry(slot=PromptSlot.GUIDANCE),
                )
            ),
        )
    )
    prompt = await prompt_of(
        anywhere,
        **{
            level: lambda builder: builder.prompt_template(template).prompt_contribution(
                guidance("Squawk.")
            )
        },
    )
    assert prompt.split() == ["system:", "You", "are", "a", "parrot.", "Squawk."]


@pytest.mark.parametrize(("level", "said"), [("session", "<core>"), ("turn", "<session>")])
async def test_a_level_can_replace_what_the_ones_around_it_said(
    anywhere: Place, level: str, said: str
) -> None:
    """Adding alone could never take back what was said before."""
    prompt = await prompt_of(
        anywhere,
        **{said.strip("<>"): lambda builder: builder.prompt_contribution(guidance(said))},
        **{
            level: lambda builder: builder.replace_prompt_slot(
                PromptSlot.GUIDANCE, guidance("instead")
            )
        },
    )
    assert said not in prompt
    assert "instead" in prompt


@pytest.mark.parametrize("level", LEVELS)
async def test_every_level_can_empty_a_slot(anywhere: Place, level: str) -> None:
    """What was put there before, on the level itself or around it, is gone."""
    prompt = await prompt_of(
        anywhere,
        **{
            level: lambda builder: builder.prompt_contribution(
                guidance("unsaid")
            ).clear_prompt_slot(PromptSlot.GUIDANCE)
        },
    )
    assert "unsaid" not in prompt
