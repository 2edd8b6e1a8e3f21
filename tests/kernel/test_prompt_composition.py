"""From layers to one system prompt."""

from hypothesis import given
from hypothesis import strategies as st

from lash_runtime.kernel.prompt_composition import (
    DEFAULT_INTRO,
    PromptComposer,
    resolved_contributions,
)
from lash_runtime.model.prompt import (
    PromptContribution,
    PromptLayer,
    PromptSection,
    PromptSlot,
    PromptTemplate,
    SlotEntry,
    TextEntry,
)

GUIDANCE = PromptSlot.GUIDANCE


def note(content: str, slot: PromptSlot = GUIDANCE, **fields: object) -> PromptContribution:
    return PromptContribution(slot=slot, content=content, **fields)


def layer(*contributions: PromptContribution) -> PromptLayer:
    made = PromptLayer()
    for contribution in contributions:
        made = made.add_contribution(contribution)
    return made


def only(slot: PromptSlot, title: str | None = None) -> PromptLayer:
    section = PromptSection(title=title, entries=(SlotEntry(slot=slot),))
    return PromptLayer(template=PromptTemplate(sections=(section,)))


def prompt(*layers: PromptLayer, **inputs: object) -> str:
    return PromptComposer().render(layers, **inputs)


def slot_text(*layers: PromptLayer, slot: PromptSlot = GUIDANCE, **inputs: object) -> str:
    return prompt(only(slot), *layers, **inputs)


def test_the_default_prompt_has_its_sections_in_order() -> None:
    """Models read the frame first, and the environment where they look for facts."""
    text = prompt(
        layer(
            note("you may know", PromptSlot.ENVIRONMENT),
            PromptContribution.runtime_context("it is noon"),
            PromptContribution.project_instructions("use tabs"),
            note("be kind"),
            note("hello", PromptSlot.INTRO),
            note("in a sandbox", PromptSlot.EXECUTION),
        ),
        execution_prompt="call tools",
    )
    order = [
        DEFAULT_INTRO,
        "hello",
        "## Execution",
        "call tools",
        "in a sandbox",
        "## Guidance",
        "- Be brief",
        "### Project Instructions\n\nuse tabs",
        "be kind",
        "## Environment",
        "### Runtime Context\n\nit is noon",
        "you may know",
    ]
    positions = [text.index(piece) for piece in order]
    assert positions == sorted(positions)
    assert "\n\n\n" not in text


def test_a_section_without_content_disappears_with_its_title() -> None:
    """A heading over nothing tells the model that something is missing."""
    text = prompt()
    assert "## Environment" not in text
    assert "## Execution" not in text
    assert text.startswith(DEFAULT_INTRO)


def test_the_intro_is_neutral_and_can_be_chosen() -> None:
    """What the agent is, is the host's business."""
    assert PromptComposer(intro="You are a pirate.").render().startswith("You are a pirate.")
    assert "cod" not in DEFAULT_INTRO.lower()


def test_asking_is_mentioned_only_where_there_is_a_tool_for_it() -> None:
    """The model cannot ask by a tool it does not have."""
    without, with_ask = prompt(), prompt(tool_names=("ask",))
    assert "Ask the user only" not in without
    bullets = [line for line in with_ask.splitlines() if line.startswith("- ")]
    assert "Ask the user only" in bullets[1]


def test_the_innermost_template_wins() -> None:
    """A turn may arrange its prompt in its own way."""
    mine = PromptLayer(
        template=PromptTemplate(sections=(PromptSection(entries=(TextEntry(content=" mine "),)),))
    )
    assert prompt(only(GUIDANCE), mine, layer(note("x"))) == "mine"


def test_inner_layers_add_to_outer_ones() -> None:
    """Setting a line for one turn must not lose the session's."""
    assert slot_text(layer(note("a outer")), layer(note("b inner"))) == "a outer\n\nb inner"


def test_a_reset_drops_what_outer_layers_said_and_nothing_else() -> None:
    """Also when more is added after it, in the same layer or further in."""
    outer = layer(note("outer"), note("kept", PromptSlot.INTRO))
    reset = PromptLayer().replace_slot(GUIDANCE, (note("a new", PromptSlot.INTRO),))
    reset = reset.add_contribution(note("b more"))
    assert slot_text(outer, reset, layer(note("c inner"))) == "a new\n\nb more\n\nc inner"
    assert slot_text(outer, reset, slot=PromptSlot.INTRO) == "kept"
    assert slot_text(outer, PromptLayer().clear_slot(GUIDANCE)) == ""


def test_a_gated_contribution_needs_one_of_its_tools() -> None:
    """Advice about a tool that is not there misleads."""
    gated = layer(note("use it").requires_any_tool("look", "find"))
    assert slot_text(gated) == ""
    assert slot_text(gated, tool_names=("other",)) == ""
    assert slot_text(gated, tool_names=("find", "other")) == "use it"


def test_contributions_are_ordered_by_priority_then_title_then_content() -> None:
    """The prompt may not depend on the order in which plugins were loaded."""
    entries = (
        note("z", title="b"),
        note("y", title="a"),
        note("x"),
        note("b", title="b"),
        note("last").with_priority(1),
        note("first").with_priority(-1),
    )
    expected = "first\n\nx\n\n### a\n\ny\n\n### b\n\nb\n\n### b\n\nz\n\nlast"
    assert slot_text(layer(*entries)) == expected
    assert slot_text(layer(*reversed(entries))) == expected


def test_blank_contributions_are_dropped_and_others_trimmed() -> None:
    """White space is not content, and a blank title is no title."""
    assert slot_text(layer(note(" \n"), note("  a\n ", title=" "))) == "a"


def test_exact_duplicates_are_shown_once() -> None:
    """Two plugins that say the same say it once, whatever they are gated by."""
    twice = layer(note("a"), note("a "), note("a").requires_tool("look"), note("a", title="t"))
    assert slot_text(twice, tool_names=("look",)) == "a\n\n### t\n\na"


def test_equal_inputs_give_the_same_string_object() -> None:
    """The rendered prefix of a request is kept by identity further down."""
    composer = PromptComposer()
    first = composer.render((layer(note("a")),), execution_prompt="x", tool_names=("t",))
    second = composer.render((layer(note("a")),), execution_prompt="x", tool_names=["t"])
    assert first is second
    other = composer.render((layer(note("b")),), execution_prompt="x", tool_names=("t",))
    assert other != first
    assert composer.render((layer(note("b")),), execution_prompt="y", tool_names=("t",)) != other


def test_inputs_that_come_to_the_same_text_give_the_same_object() -> None:
    """A tool that changes nothing in the prompt is no reason to send another one."""
    composer = PromptComposer()
    first = composer.render((layer(note("a")),))
    assert composer.render((layer(note("a ")),), tool_names=("new",)) is first


notes = st.builds(
    note,
    st.sampled_from(["", "a", " a", "b"]),
    st.sampled_from(PromptSlot),
    title=st.sampled_from([None, "", "t"]),
    priority=st.integers(-1, 1),
    gate_tools=st.sampled_from([(), ("x",), ("x", "y")]),
)
layers = st.lists(notes, max_size=4).map(lambda items: layer(*items))


@given(st.lists(layers, max_size=4), st.sets(st.sampled_from(["x", "y"])))
def test_the_cache_never_changes_what_is_said(
    stack: list[PromptLayer], tool_names: set[str]
) -> None:
    """A composer that has seen other prompts renders what a fresh one does."""
    composer = PromptComposer()
    for depth in range(len(stack) + 1):
        inputs = {"tool_names": tool_names, "execution_prompt": "run"}
        fresh = PromptComposer().render(stack[:depth], **inputs)
        assert composer.render(stack[:depth], **inputs) == fresh
        assert composer.render(list(stack[:depth]), **inputs) is composer.render(
            stack[:depth], **inputs
        )


@given(st.lists(layers, max_size=3), st.sets(st.sampled_from(["x", "y"])))
def test_resolving_is_sorted_without_duplicates_and_open(
    stack: list[PromptLayer], tool_names: set[str]
) -> None:
    """The laws that every renderer may rely on."""
    resolved = resolved_contributions(stack, tool_names)
    order = list(PromptSlot)
    keys = [
        (order.index(item.slot), item.priority, item.title or "", item.content) for item in resolved
    ]
    assert keys == sorted(set(keys))
    assert all(item.content and item.content == item.content.strip() for item in resolved)
    assert all(not item.gate_tools or tool_names & set(item.gate_tools) for item in resolved)
