"""The README and the docs: every program runs, every link leads somewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import pages
from docs.pages import python_blocks

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES_WITH_CODE = [page for page in PAGES if any(python_blocks(page.read_text("utf-8")))]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run(page: Path, directory: Path) -> "subprocess.CompletedProcess[str]":
    unset = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "LASH_MODEL", "PYTHONWARNINGS"}
    return subprocess.run(
        [sys.executable, "-W", "error", pages.__file__, str(page)],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if name not in unset},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=named)
def test_the_programs_of_a_page_run_as_they_stand(page: Path, tmp_path: Path) -> None:
    """A snippet that fails costs a newcomer more than a missing one."""
    finished = run(page, tmp_path)

    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == "", "a program of the docs leaves something open or warns"


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=named)
def test_a_block_that_is_not_run_says_why(page: Path) -> None:
    """Otherwise the comment would be a way to keep broken code."""
    for block in python_blocks(page.read_text("utf-8")):
        assert block.not_run is None or len(block.not_run.split()) >= 2, f"line {block.line}"


def links(page: Path) -> Iterator[Path]:
    for match in LINK.finditer(page.read_text("utf-8")):
        target = match["target"].partition("#")[0]
        if target and "://" not in target and not target.startswith("mailto:"):
            yield (page.parent / target).resolve()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=named)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    """Pages move; the links to them have to follow."""
    assert [target for target in links(page) if not target.exists()] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    """A page that nothing links to is not read."""
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page.exists() and page not in reached:
            reached.add(page)
            waiting.extend(target for target in links(page) if target.suffix == ".md")

    assert set(PAGES) - reached == set()


def test_blocks_share_a_namespace_and_may_await(tmp_path: Path) -> None:
    """A page builds its program up in steps, sync and async ones."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nimport asyncio\nasync def two() -> int:\n    return 2\n```\n"
        "```python\nx = await two()\nlock = asyncio.Lock()\n```\n"
        "```python\nassert asyncio.run(two()) == x\n```\n"
        "  ```python\n  async with lock:\n      print(x)\n  ```\n",
        "utf-8",
    )

    finished = run(page, tmp_path)

    assert (finished.returncode, finished.stdout) == (0, "2\n"), finished.stderr


def test_a_failing_block_fails_its_page_and_names_its_line(tmp_path: Path) -> None:
    """The check itself has to be able to fail."""
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\npass\n1 / 0\n```\n", "utf-8")

    finished = run(page, tmp_path)

    assert finished.returncode != 0
    assert f'"{page}", line 5' in finished.stderr


def test_only_python_that_is_not_excused_is_run(tmp_path: Path) -> None:
    """Shell, and code that needs what is not here, may be shown as well."""
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\nexit 1\n```\n"
        "<!-- not run: needs a server -->\n```python\n1 / 0\n```\n"
        "````markdown\n```python\n1 / 0\n```\n````\n"
        "<!-- a remark -->\n\nText.\n\n```python\nprint('ran')\n```\n",
        "utf-8",
    )

    finished = run(page, tmp_path)

    assert (finished.returncode, finished.stdout) == (0, "ran\n"), finished.stderr
