"""How turns go on: what a protocol brings to a core.

The runtime executes; a protocol decides. It says what the model is told about working in it, and
its driver answers each response of the model with what happens next.
"""

from collections.abc import Collection
from typing import Protocol

from ..kernel.machine.driver import ProtocolDriver
from ..model.prompt import PromptLayer


class TurnProtocol(Protocol):
    """One way of working, for all sessions of a core. Keeps no state of any of them."""

    @property
    def id(self) -> str:
        """Stored with each turn, as what it takes to go on with it: never change it."""
        ...

    @property
    def driver(self) -> ProtocolDriver:
        """Decides what a turn does next. Pure: it is asked again when a turn is run again."""
        ...

    @property
    def preamble(self) -> PromptLayer:
        """The outermost prompt layer; those of core, session and turn lie over it."""
        ...

    @property
    def sync_execution_environment(self) -> bool:
        """Whether prompt and tools are looked at again before each model call of a turn; without
        it those that a turn began with hold to its end."""
        ...

    def execution_prompt(self, tool_names: Collection[str]) -> str:
        """How to work in this protocol, for a model that has these tools. Deterministic."""
        ...
