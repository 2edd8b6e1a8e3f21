"""Keeping credentials out of what people read: error messages, bodies, traces.

What a provider knows to be its secret is replaced wherever it occurs; what merely looks like a
credential is replaced too, because endpoints and HTTP libraries echo headers in their errors.
"""

import re
from collections.abc import Iterable
from typing import Final

REDACTED: Final = "[redacted]"

_LOOKS_SECRET: Final = re.compile(
    r"(?i)(?P<scheme>\b(?:bearer|basic)\s+)[^\s'\",;}\]]+|\b(?:sk|pk|rk|gsk|xai)-[\w.-]{8,}"
)

SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"}
)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without `secrets` and without anything shaped like a key or a bearer token."""
    for secret in secrets:
        if len(secret) >= 4:  # a shorter one is a placeholder such as "x", and part of words
            text = text.replace(secret, REDACTED)
    return _LOOKS_SECRET.sub(lambda found: (found["scheme"] or "") + REDACTED, text)


def is_secret_header(name: str) -> bool:
    """Whether the value of this header is never shown or kept."""
    lowered = name.lower()
    return lowered in SECRET_HEADERS or "api-key" in lowered or "token" in lowered.split("-")
