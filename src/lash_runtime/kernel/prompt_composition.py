"""From layers to the system prompt: which contributions count, in what order, as what text.

Rule 1: layers go from outer to inner. A later template wins; a slot that is reset drops what
earlier layers put there.
Rule 2: gates are looked at last, so that a contribution needs its tool wherever it comes from.
Rule 3: equal inputs give the very same string object, which tells everyone behind it that
nothing has changed.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Final, assert_never

from ..model.prompt import (
    BuiltinEntry,
    PromptBuiltin,
    PromptContribution,
    PromptLayer,
    PromptSection,
    PromptSlot,
    PromptTemplate,
    SlotEntry,
    TemplateEntry,
    TextEntry,
)
from ..model.records import dataclass

DEFAULT_INTRO: Final = "You are an assistant. Use the tools you are given and answer the user."

ASK_TOOL: Final = "ask"
"""The name of a tool by which the model can put a question to the user."""

_GUIDANCE: Final = (
    "Be brief: say what matters and stop.",
    "Do not repeat a conclusion that you have already given.",
    "Prefer the simplest solution that is correct.",
)
_ASK_GUIDANCE: Final = (
    "Take the initiative. Ask the user only when you cannot go on without an answer."
)

_SLOT_ORDER: Final = {slot: position for position, slot in enumerate(PromptSlot)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptInputs:
    """Everything a prompt depends on. `layers` go from outer to inner."""

    layers: tuple[PromptLayer, ...] = ()
    execution_prompt: str = ""
    tool_names: frozenset[str] = frozenset()
    intro: str = DEFAULT_INTRO


class PromptComposer:
    """Renders the prompt of one session, and keeps the latest one."""

    __slots__ = ("_inputs", "_intro", "_prompt")

    def __init__(self, intro: str = DEFAULT_INTRO) -> None:
        self._intro = intro
        self._inputs: PromptInputs | None = None
        self._prompt = ""

    def render(
        self,
        layers: Iterable[PromptLayer] = (),
        *,
        execution_prompt: str = "",
        tool_names: Iterable[str] = (),
    ) -> str:
        """The prompt; the same object as last time if nothing it depends on has changed."""
        inputs = PromptInputs(
            layers=tuple(layers),
            execution_prompt=execution_prompt,
            tool_names=frozenset(tool_names),
            intro=self._intro,
        )
        if inputs != self._inputs:
            prompt = rendered_prompt(inputs)
            # Another way to say the same thing is no reason to send it as something new.
            if prompt != self._prompt:
                self._prompt = prompt
            self._inputs = inputs
        return self._prompt


def rendered_prompt(inputs: PromptInputs) -> str:
    """Resolve and render, without a cache."""
    template = resolved_template(inputs.layers)
    contributions = resolved_contributions(inputs.layers, inputs.tool_names)
    sections = (_section(section, inputs, contributions) for section in template.sections)
    return "\n\n".join(section for section in sections if section)


def resolved_template(layers: Iterable[PromptLayer]) -> PromptTemplate:
    """The template of the innermost layer that has one."""
    template = default_template()
    for layer in layers:
        if layer.template is not None:
            template = layer.template
    return template


@cache
def default_template() -> PromptTemplate:
    """The order of the prompt when no layer brings a template."""
    return PromptTemplate(
        sections=(
            PromptSection(
                entries=(
                    BuiltinEntry(builtin=PromptBuiltin.MAIN_AGENT_INTRO),
                    SlotEntry(slot=PromptSlot.INTRO),
                )
            ),
            PromptSection(
                title="Execution",
                entries=(
                    BuiltinEntry(builtin=PromptBuiltin.EXECUTION_INSTRUCTIONS),
                    SlotEntry(slot=PromptSlot.EXECUTION),
                ),
            ),
            PromptSection(
                title="Guidance",
                entries=(
                    BuiltinEntry(builtin=PromptBuiltin.CORE_GUIDANCE),
                    SlotEntry(slot=PromptSlot.PROJECT_INSTRUCTIONS),
                    SlotEntry(slot=PromptSlot.GUIDANCE),
                ),
            ),
            PromptSection(
                title="Environment",
                entries=(
                    SlotEntry(slot=PromptSlot.RUNTIME_CONTEXT),
                    SlotEntry(slot=PromptSlot.ENVIRONMENT),
                ),
            ),
        )
    )


def resolved_contributions(
    layers: Iterable[PromptLayer], tool_names: Collection[str]
) -> tuple[PromptContribution, ...]:
    """What all layers together put into the slots, trimmed, in order and each once."""
    slots: dict[PromptSlot, list[PromptContribution]] = {}
    for layer in layers:
        for slot, change in layer.slots.items():
            kept = [] if change.reset else slots.get(slot, [])
            slots[slot] = [*kept, *change.contributions]
    admitted = (
        _trimmed(contribution)
        for contributions in slots.values()
        for contribution in contributions
        if _gate_is_open(contribution, tool_names)
    )
    ordered = sorted((item for item in admitted if item.content), key=_sort_key)
    return tuple(_without_duplicates(ordered))


def _gate_is_open(contribution: PromptContribution, tool_names: Collection[str]) -> bool:
    gates = contribution.gate_tools
    return not gates or any(name in tool_names for name in gates)


def _trimmed(contribution: PromptContribution) -> PromptContribution:
    title = (contribution.title or "").strip() or None
    content = contribution.content.strip()
    return contribution.model_copy(update={"title": title, "content": content})


def _sort_key(contribution: PromptContribution) -> tuple[int, int, str, str]:
    # A contribution without a title sorts as the empty title, in front of all others.
    return (
        _SLOT_ORDER[contribution.slot],
        contribution.priority,
        contribution.title or "",
        contribution.content,
    )


def _without_duplicates(
    contributions: Iterable[PromptContribution],
) -> Iterator[PromptContribution]:
    """What is shown twice is shown once, whatever tools it is gated by."""
    shown: set[tuple[int, int, str, str]] = set()
    for contribution in contributions:
        key = _sort_key(contribution)
        if key not in shown:
            shown.add(key)
            yield contribution


def _section(
    section: PromptSection, inputs: PromptInputs, contributions: Sequence[PromptContribution]
) -> str:
    texts = (_entry(entry, inputs, contributions).strip() for entry in section.entries)
    body = "\n\n".join(text for text in texts if text)
    title = (section.title or "").strip()
    return f"## {title}\n\n{body}" if body and title else body


def _entry(
    entry: TemplateEntry, inputs: PromptInputs, contributions: Sequence[PromptContribution]
) -> str:
    match entry:
        case TextEntry(content=content):
            return content
        case BuiltinEntry(builtin=builtin):
            return _builtin(builtin, inputs)
        case SlotEntry(slot=slot):
            return "\n\n".join(_shown(item) for item in contributions if item.slot is slot)
        case _:
            assert_never(entry)


def _builtin(builtin: PromptBuiltin, inputs: PromptInputs) -> str:
    match builtin:
        case PromptBuiltin.MAIN_AGENT_INTRO:
            return inputs.intro
        case PromptBuiltin.EXECUTION_INSTRUCTIONS:
            return inputs.execution_prompt
        case PromptBuiltin.CORE_GUIDANCE:
            bullets = list(_GUIDANCE)
            if ASK_TOOL in inputs.tool_names:
                bullets.insert(1, _ASK_GUIDANCE)
            return "\n".join(f"- {bullet}" for bullet in bullets)
        case _:
            assert_never(builtin)


def _shown(contribution: PromptContribution) -> str:
    if contribution.title is None:
        return contribution.content
    return f"### {contribution.title}\n\n{contribution.content}"
