"""Reads a docstring: what the tool does, and what each argument means.

Google, NumPy and reST argument sections are understood. The description is the prose before
the first section of any kind; what returns or raises is for the reader of the code.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final

from ..model.records import dataclass


@dataclass(frozen=True, slots=True)
class ReadDocstring:
    """`arguments` maps a name to its text, with line breaks folded."""

    description: str
    arguments: Mapping[str, str]


ARGUMENT_SECTIONS: Final = frozenset(
    {"args", "arguments", "parameters", "params", "keyword args", "keyword arguments",
     "other parameters"}
)  # fmt: skip
OTHER_SECTIONS: Final = frozenset(
    {"returns", "return", "yields", "yield", "raises", "raise", "warns", "receives", "attributes",
     "example", "examples", "note", "notes", "warning", "warnings", "see also", "references",
     "todo"}
)  # fmt: skip

_GOOGLE_ARGUMENT: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:\s*(.*)")
_NUMPY_ARGUMENT: Final = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_REST_FIELD: Final = re.compile(r":(\w+)(?:\s+([^:]+))?:\s*(.*)")
_REST_ARGUMENT: Final = frozenset({"param", "parameter", "arg", "argument", "key", "keyword"})
_UNDERLINE: Final = re.compile(r"(-{3,}|={3,})\s*$")

_Entry = Callable[[str], tuple[str, str] | None]
"""Reads the head of one entry: its name, and the text that follows on the same line."""


def read_docstring(docstring: str | None) -> ReadDocstring:
    """Take `docstring` apart; without one, both parts are empty."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    sections = tuple(_sections(lines))
    end = sections[0].start if sections else len(lines)
    fields = next((i for i, line in enumerate(lines) if _REST_FIELD.match(line)), len(lines))
    arguments: dict[str, str] = dict(_rest_arguments(lines[fields:]))
    for section in sections:
        if section.title in ARGUMENT_SECTIONS:
            read = _numpy_arguments if section.underlined else _google_arguments
            arguments.update(read(section.body))
    return ReadDocstring("\n".join(lines[: min(end, fields)]).strip(), arguments)


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    start: int
    underlined: bool
    body: tuple[str, ...]


def _sections(lines: list[str]) -> Iterator[_Section]:
    heads = [head for i in range(len(lines)) if (head := _head(lines, i)) is not None]
    for (start, title, underlined), (end, _, _) in pairwise([*heads, (len(lines), "", False)]):
        body = lines[start + (2 if underlined else 1) : end]
        yield _Section(title, start, underlined, tuple(body))


def _head(lines: list[str], index: int) -> tuple[int, str, bool] | None:
    """The section that begins at this line: `Args:` or an underlined `Parameters`."""
    line = lines[index].rstrip()
    title = line.rstrip(":").lower()
    if title not in ARGUMENT_SECTIONS and title not in OTHER_SECTIONS:
        return None
    after = lines[index + 1] if index + 1 < len(lines) else ""
    if _UNDERLINE.match(after):
        return index, title, True
    # Prose may well begin with "Note:" or end in "returns:"; a section has a body below its head.
    if line.endswith(":") and (after.startswith((" ", "\t")) or not after.strip()):
        return index, title, False
    return None


def _google_arguments(body: Iterable[str]) -> Iterator[tuple[str, str]]:
    return _folded(body, _google_name)


def _numpy_arguments(body: Iterable[str]) -> Iterator[tuple[str, str]]:
    for names, text in _folded(body, _numpy_names):
        for name in names.split(","):
            yield name.strip().lstrip("*"), text


def _google_name(line: str) -> tuple[str, str] | None:
    match = _GOOGLE_ARGUMENT.match(line)
    return (match[1], match[2]) if match else None


def _numpy_names(line: str) -> tuple[str, str] | None:
    match = _NUMPY_ARGUMENT.match(line)
    return (match[1], "") if match else None


def _rest_arguments(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for field, text in _folded(lines, _rest_field):
        if field:
            yield field, text


def _rest_field(line: str) -> tuple[str, str] | None:
    match = _REST_FIELD.match(line)
    if match is None:
        return None
    if match[1] not in _REST_ARGUMENT or not match[2]:
        return "", ""  # a field that documents something else still ends the one before it
    # `:param str city:` has the type between; the name is the last word.
    return match[2].split()[-1].lstrip("*"), match[3]


def _folded(lines: Iterable[str], entry: _Entry) -> Iterator[tuple[str, str]]:
    """Entries at the indentation of the first, each with its deeper lines joined to it."""
    name: str | None = None
    texts: list[str] = []
    margin: int | None = None
    for line in lines:
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        margin = indent if margin is None else margin
        found = entry(line.strip()) if indent <= margin else None
        if found is None:
            texts.append(line.strip())
            continue
        if name is not None:
            yield name, " ".join(texts).strip()
        name, texts = found[0], [found[1]] if found[1] else []
    if name is not None:
        yield name, " ".join(texts).strip()
