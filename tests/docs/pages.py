"""Reads the Python blocks out of a Markdown page, and runs a page as one program.

Run as a script, it executes the page named on the command line: all blocks in order, in one
namespace, on one event loop. `await` works at the top level of a block, and so does
`asyncio.run`. A block under a comment `<!-- not run: why -->` is left out.
"""

import ast
import asyncio
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPENING = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
NOT_RUN = re.compile(r"^\s*<!--\s*not run:(?P<why>.*?)-->\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of Python. `line` is that of its first line of code, counted from 1;
    `not_run` is the stated reason for leaving it out."""

    line: int
    code: str
    not_run: str | None = None


def python_blocks(text: str) -> Iterator[Block]:
    """The Python blocks of a page, in order."""
    lines = text.splitlines()
    above = ""
    at = 0
    while at < len(lines):
        opening = OPENING.match(lines[at])
        at += 1
        if opening is None:
            above = lines[at - 1] if lines[at - 1].strip() else above
            continue
        start = at
        while at < len(lines) and lines[at].strip() != opening["fence"]:
            at += 1
        if opening["info"].split()[:1] == ["python"]:
            indent = len(opening["indent"])
            code = "\n".join(line[indent:] for line in lines[start:at]) + "\n"
            skipped = NOT_RUN.match(above)
            yield Block(
                line=start + 1,
                code=code,
                not_run=skipped["why"].strip() if skipped else None,
            )
        above = ""
        at += 1


def run_page(page: Path) -> None:
    """Execute the page's blocks. A traceback shows the lines of the page itself."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for block in python_blocks(page.read_text("utf-8")):
            if block.not_run is not None:
                continue
            source = "\n" * (block.line - 1) + block.code
            code = compile(source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(eval(code, namespace))
            else:
                exec(code, namespace)


if __name__ == "__main__":
    run_page(Path(sys.argv[1]).resolve())
