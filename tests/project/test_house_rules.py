"""Rules of the house that no linter knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "lash_runtime"
MODULES = sorted(SOURCE.rglob("*.py"))
MAX_LINES = 500

FREE_TASKS = {"create_task", "ensure_future", "gather"}
TASK_OWNERS = [SOURCE / "runtime" / name for name in ("tasks.py", "children.py")]
VAGUE_NAMES = {"common", "helper", "helpers", "misc", "util", "utils"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")


def named(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text("utf-8"), str(module))


def where(module: Path, node: ast.stmt | ast.expr | ast.excepthandler) -> str:
    return f"{named(module)}:{node.lineno}"


def test_no_module_holds_two_ideas() -> None:
    """A file that passes 500 lines is telling us that it does."""
    sizes = {named(module): len(module.read_text("utf-8").splitlines()) for module in MODULES}

    assert {name: size for name, size in sizes.items() if size > MAX_LINES} == {}


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    """Whoever knows the word has to find the file."""
    assert [named(module) for module in MODULES if module.stem.strip("_") in VAGUE_NAMES] == []


def test_every_module_says_what_it_is_for() -> None:
    """The docstring is where a reader starts."""
    assert [named(module) for module in MODULES if not ast.get_docstring(tree(module))] == []


def test_nothing_is_left_for_later() -> None:
    """What is not built does not exist; it is not a stub that lies."""
    found = [
        f"{named(module)}:{number}"
        for module in MODULES
        for number, line in enumerate(module.read_text("utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]

    assert found == []


def free_tasks(module: Path) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else ""
            name = called.id if isinstance(called, ast.Name) else name
            if name in FREE_TASKS:
                yield where(module, node)


def test_only_the_owners_of_tasks_start_free_standing_ones() -> None:
    """A task without an owner outlives its core, and its error is seen by nobody."""
    found = [place for m in MODULES if m not in TASK_OWNERS for place in free_tasks(m)]

    assert found == []
    assert all(list(free_tasks(m)) for m in TASK_OWNERS), "the check has gone blind"


def swallows_cancellation(handler: ast.ExceptHandler) -> bool:
    """A handler that catches cancellation and does not end by raising it again."""
    caught = handler.type
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    names = {ast.unparse(kind).rpartition(".")[2] if kind else "BaseException" for kind in kinds}
    if not names & {"BaseException", "CancelledError", "get_cancelled_exc_class()"}:
        return False
    return not any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def test_no_handler_swallows_cancellation() -> None:
    """A cancelled caller that goes on working can never be stopped."""
    found = [
        where(module, node)
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ExceptHandler) and swallows_cancellation(node)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("handler", "swallowed"),
    [
        ("except: pass", True),
        ("except BaseException: pass", True),
        ("except (ValueError, asyncio.CancelledError): pass", True),
        ("except BaseException:\n    clean()\n    raise", False),
        ("except Exception: pass", False),
    ],
)
def test_the_check_for_swallowed_cancellation_can_fail(handler: str, *, swallowed: bool) -> None:
    """A check that accepts everything protects nothing."""
    (statement,) = ast.parse(f"try:\n    work()\n{handler}\n").body
    assert isinstance(statement, ast.Try)

    assert swallows_cancellation(statement.handlers[0]) is swallowed
