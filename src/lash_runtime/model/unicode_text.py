"""Text from outside, made fit for the store: bounded, and valid Unicode."""

from typing import Final

MAX_TEXT_CHARS: Final = 4_000
"""What is kept of an error's text; the rest seldom says more."""


def storable_text(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """`text` cut to `limit` characters, with lone surrogates spelled out.

    Such surrogates stand for undecodable bytes, in file names for one; no UTF-8 file or
    database takes them.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def why_not_storable(text: str) -> str | None:
    """Say what keeps `text` from being stored as it is; `None` when nothing does."""
    if "\x00" in text:
        return "it contains a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"it is not valid Unicode at position {error.start}"
    return None
