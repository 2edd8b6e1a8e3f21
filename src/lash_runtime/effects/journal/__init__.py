"""The effect host that keeps its record in the session's own store."""

from .controller import JournalEffectController
from .host import JournalEffectHost

__all__ = ["JournalEffectController", "JournalEffectHost"]
