"""The kinds of failure at a provider."""

from enum import StrEnum
from typing import Self


class ProviderFailureKind(StrEnum):
    """What kind of thing went wrong at a provider; a kind from the future reads as unknown."""

    TRANSPORT = "transport"
    TIMEOUT = "timeout"
    HTTP = "http"
    STREAM = "stream"
    AUTH = "auth"
    VALIDATION = "validation"
    QUOTA = "quota"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> Self:
        return cls("unknown")
