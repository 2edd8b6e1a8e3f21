"""Diagrams in the docs say what the tables in the code say."""

import re
from pathlib import Path

from lash_runtime.kernel.machine.diagram import mermaid_diagram
from lash_runtime.kernel.turn_states import MOVES, SETTLED, TurnState

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_turn_row_is_drawn_from_its_table() -> None:
    """Readers trust a picture more than the code it has drifted away from."""
    section = ARCHITECTURE.read_text("utf-8").split("### The turn's row")[1].split("\n### ")[0]
    drawn = re.findall(r"^ +(\S+) --> (\S+)$", section, re.MULTILINE)
    table = [(state.value, following.value) for state in TurnState for following in MOVES[state]]
    ends = [("[*]", TurnState.ACCEPTED.value), *((state.value, "[*]") for state in SETTLED)]

    assert sorted(drawn) == sorted(table + ends)


def test_the_turn_machine_is_drawn_from_its_table() -> None:
    """When this fails, put the new output of `mermaid_diagram()` into the page."""
    section = ARCHITECTURE.read_text("utf-8").split("### The machine inside a turn")[1]
    drawn = section.split("```mermaid\n")[1].split("```")[0]

    assert drawn == mermaid_diagram()
