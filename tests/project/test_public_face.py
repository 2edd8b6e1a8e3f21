"""What a host can import, and what importing it costs."""

import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import metadata, requires, version
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest

import lash_runtime

DOORS = (
    "lash_runtime",
    "lash_runtime.attachments",
    "lash_runtime.observe",
    "lash_runtime.providers",
    "lash_runtime.providers.openai",
    "lash_runtime.stores.memory",
    "lash_runtime.stores.sqlite",
    "lash_runtime.testing",
    "lash_runtime.tools",
)
BASE = {"aiosqlite", "anyio", "pydantic", "typing-extensions"}
BROUGHT_ALONG = {
    "annotated_types",
    "idna",
    "pydantic_core",
    "sniffio",
    "typing_inspection",
}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules, other than Python's own, that `statement` loads."""
    program = (
        f"import sys; before = set(sys.modules); {statement}; import json; "
        "print(json.dumps([m for m in sys.modules if m not in before]))"
    )
    # Isolated mode: nothing of the test run's environment gets in.
    printed = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    ).stdout
    roots = {name.partition(".")[0] for name in json.loads(printed)}
    return {name for name in roots if not name.startswith("_")} - sys.stdlib_module_names


def test_a_name_is_public_only_if_it_is_declared() -> None:
    """A name becomes public by decision, not by being imported for use."""
    visible = {
        name
        for name, value in vars(lash_runtime).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }

    assert visible == set(lash_runtime.__all__)


@pytest.mark.parametrize("door", DOORS)
def test_what_a_package_declares_is_there_once(door: str) -> None:
    """A declared name that is missing breaks `import *` and misleads every reader."""
    module = import_module(door)

    declared = list(module.__all__)

    assert len(set(declared)) == len(declared)
    assert [name for name in declared if not hasattr(module, name)] == []


def test_importing_the_library_loads_its_base_dependencies_alone() -> None:
    """No SDK, no optional extra and no test tool: a program pays for what it uses."""
    allowed = {name.replace("-", "_") for name in BASE} | BROUGHT_ALONG | {"lash_runtime"}

    assert loaded_by("import lash_runtime") - allowed == set()


@pytest.mark.parametrize("door", [door for door in DOORS if door != "lash_runtime"])
def test_no_package_loads_an_sdk_before_it_is_used(door: str) -> None:
    """Naming an adapter is free; making one loads what it talks through."""
    assert loaded_by(f"import {door}") & {"openai", "httpx", "pytest", "hypothesis"} == set()


def test_an_import_builds_no_validator() -> None:
    """Each costs a millisecond, and for the first pydantic looks through every distribution."""
    program = (
        "import lash_runtime; from lash_runtime.model._value import Value as base\n"
        "def kinds(kind): return [kind, *(k for c in kind.__subclasses__() for k in kinds(c))]\n"
        "print(*(kind.__name__ for kind in kinds(base) if kind.__pydantic_complete__))"
    )
    built = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()

    assert built == []


def test_the_base_dependencies_are_the_four() -> None:
    """Whoever embeds a library inherits what it depends on."""
    base = {
        requirement.split(";")[0].split("<")[0].split(">")[0].strip()
        for requirement in requires("lash-runtime") or []
        if "extra ==" not in requirement
    }

    assert base == BASE


def test_type_checkers_are_told_that_the_library_is_typed() -> None:
    """Without the marker every annotation would be ignored."""
    assert files("lash_runtime").joinpath("py.typed").is_file()
    assert "Typing :: Typed" in (metadata("lash-runtime").get_all("Classifier") or [])


def test_the_changelog_opens_with_the_version_that_is_declared() -> None:
    """Whoever upgrades finds out what changed."""
    changelog = Path(__file__).parents[2] / "CHANGELOG.md"
    headings = [
        line.removeprefix("## ").split()[0]
        for line in changelog.read_text("utf-8").splitlines()
        if line.startswith("## ")
    ]

    assert headings[0] == version("lash-runtime")
