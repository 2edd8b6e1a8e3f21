"""One canonical JSON text for a value, and its hash.

Every hash in the library is taken over this text, so it may never change: keys sorted, no
spaces, no escapes that UTF-8 does not need, no NaN. Values are dumped in JSON mode with their
absent optional fields left out, so a new optional field leaves old hashes as they were.
"""

import hashlib
import json
from typing import Any, Final

from pydantic import BaseModel


def canonical_json(value: Any) -> bytes:
    """Encode `value` (plain JSON data or a model) canonically; raises `ValueError` on NaN."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return _CANONICAL.encode(value).encode()


# Kept, because `json.dumps` makes an encoder for each call that asks for anything unusual.
_CANONICAL: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_hash(value: Any) -> str:
    """Lower-case hex SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
