"""The headers by which an endpoint keeps the calls of one session on one of its machines."""

import hashlib
from typing import Final

from ...model.llm import LlmRequestScope

LONGEST_VALUE: Final = 200


def scope_headers(scope: LlmRequestScope) -> dict[str, str]:
    """Session and request id; one that does not fit a header is sent as its hash."""
    return {
        "session_id": _header_value(scope.session_id),
        "x-client-request-id": _header_value(scope.request_id),
    }


def _header_value(value: str) -> str:
    """Ids are a host's own and may be of any length and alphabet; a line break must not pass."""
    if len(value) <= LONGEST_VALUE and value.isascii() and value.isprintable():
        return value.strip() or "-"
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
