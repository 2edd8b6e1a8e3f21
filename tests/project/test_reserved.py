"""Names that can be matched on and do not occur: the docs list exactly those."""

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import get_args

import pytest

from lash_runtime.model.activity import TurnEvent
from lash_runtime.model.outcome import OutputState, StopReason

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "lash_runtime"
PAGE = ROOT / "docs" / "sessions-and-turns.md"
DELIVERED_BY_HOSTS = {"QueuedMessagesCommitted"}


def nodes() -> Iterator[ast.AST]:
    for module in sorted(SOURCE.rglob("*.py")):
        if not {"model", "testing"} & set(module.relative_to(SOURCE).parts):
            yield from ast.walk(ast.parse(module.read_text("utf-8")))


def listed(where: str) -> set[str]:
    """The names in the second column of the rows about `where`."""
    _, _, section = PAGE.read_text("utf-8").partition("## Reserved")
    rows = [line.split("|") for line in section.splitlines() if line.startswith("|")]
    return {
        name
        for row in rows
        if row[1].strip().strip("`") == where
        for name in re.findall(r"`(\w+)`", row[2])
    }


def test_the_activities_that_nothing_makes_are_those_that_are_listed() -> None:
    """A reader who waits for one of the others must not wait for ever."""
    kinds = {kind.__name__ for kind in get_args(TurnEvent)}
    made = {
        node.func.id
        for node in nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert kinds - made | DELIVERED_BY_HOSTS == listed("activities") - {"graph_key"}


@pytest.mark.parametrize("kind", [StopReason, OutputState])
def test_the_members_that_nothing_uses_are_those_that_are_listed(kind: type[StrEnum]) -> None:
    """Reasons and states are stored, so a member is never taken back."""
    used = {
        node.attr
        for node in nodes()
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == kind.__name__
    }

    assert set(kind.__members__) - used == listed(kind.__name__)
