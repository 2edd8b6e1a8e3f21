"""The system prompt as data: slots, contributions, templates and layers.

A layer says what one level (core, session, turn, a plugin) adds to or takes from the slots.
How layers resolve into one text is the kernel's business.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field

from ._value import Value, omitted_when_empty, omitted_when_none


class PromptSlot(StrEnum):
    """The places of the prompt, in the order in which they are rendered."""

    INTRO = "intro"
    EXECUTION = "execution"
    GUIDANCE = "guidance"
    PROJECT_INSTRUCTIONS = "project_instructions"
    RUNTIME_CONTEXT = "runtime_context"
    ENVIRONMENT = "environment"


class PromptBuiltin(StrEnum):
    MAIN_AGENT_INTRO = "main_agent_intro"
    EXECUTION_INSTRUCTIONS = "execution_instructions"
    CORE_GUIDANCE = "core_guidance"


class PromptContribution(Value):
    """A piece of prompt for one slot, shown when any of `gate_tools` is in the catalog."""

    slot: PromptSlot
    title: str | None = omitted_when_none()
    priority: int = omitted_when_empty(0)
    gate_tools: tuple[str, ...] = omitted_when_empty(())
    content: str

    @classmethod
    def project_instructions(cls, content: str) -> Self:
        return cls(
            slot=PromptSlot.PROJECT_INSTRUCTIONS, title="Project Instructions", content=content
        )

    @classmethod
    def runtime_context(cls, content: str) -> Self:
        return cls(slot=PromptSlot.RUNTIME_CONTEXT, title="Runtime Context", content=content)

    def with_priority(self, priority: int) -> Self:
        """Lower comes first in the slot."""
        return self.model_copy(update={"priority": priority})

    def requires_tool(self, name: str) -> Self:
        """Shown when `name`, or another tool it was gated by before, is in the catalog."""
        return self.requires_any_tool(name)

    def requires_any_tool(self, *names: str) -> Self:
        return self.model_copy(update={"gate_tools": (*self.gate_tools, *names)})


class TextEntry(Value):
    kind: Literal["text"] = "text"
    content: str


class BuiltinEntry(Value):
    kind: Literal["builtin"] = "builtin"
    builtin: PromptBuiltin


class SlotEntry(Value):
    kind: Literal["slot"] = "slot"
    slot: PromptSlot


TemplateEntry = Annotated[TextEntry | BuiltinEntry | SlotEntry, Field(discriminator="kind")]


class PromptSection(Value):
    title: str | None = omitted_when_none()
    entries: tuple[TemplateEntry, ...] = omitted_when_empty(())


class PromptTemplate(Value):
    """The order of sections that the rendered prompt follows."""

    sections: tuple[PromptSection, ...]


class PromptSlotLayer(Value):
    """What a layer does to one slot: `reset` drops what earlier layers put there."""

    reset: bool = omitted_when_empty(False)
    contributions: tuple[PromptContribution, ...] = omitted_when_empty(())


class PromptLayer(Value):
    """What one level of configuration says about the prompt."""

    template: PromptTemplate | None = omitted_when_none()
    slots: Mapping[PromptSlot, PromptSlotLayer] = omitted_when_empty({})

    def is_empty(self) -> bool:
        return self.template is None and not self.slots

    def with_template(self, template: PromptTemplate) -> Self:
        return self.model_copy(update={"template": template})

    def add_contribution(self, contribution: PromptContribution) -> Self:
        """Append to the slot, keeping a `reset` that was set before."""
        layer = self.slots.get(contribution.slot, PromptSlotLayer())
        added = PromptSlotLayer(
            reset=layer.reset, contributions=(*layer.contributions, contribution)
        )
        return self._with_slot(contribution.slot, added)

    def replace_slot(self, slot: PromptSlot, contributions: tuple[PromptContribution, ...]) -> Self:
        """Drop what the slot inherited and use `contributions`, moved to this slot."""
        moved = tuple(item.model_copy(update={"slot": slot}) for item in contributions)
        return self._with_slot(slot, PromptSlotLayer(reset=True, contributions=moved))

    def clear_slot(self, slot: PromptSlot) -> Self:
        return self._with_slot(slot, PromptSlotLayer(reset=True))

    def _with_slot(self, slot: PromptSlot, layer: PromptSlotLayer) -> Self:
        return self.model_copy(update={"slots": {**self.slots, slot: layer}})
