"""What the standard protocol brings to a session: its driver, and what the model is told."""

from collections.abc import Collection
from typing import Final

from ...kernel.machine.driver import ProtocolDriver
from ...model.prompt import PromptLayer
from .driver import StandardDriver

BATCH_TOOL: Final = "batch"

_WITHOUT_TOOLS: Final = "You have no tools in this session. Answer in prose."
_WITH_TOOLS: Final = (
    "Call a tool whenever you need what it gives; call it directly, by its name and with "
    "arguments that fit its schema.\n"
    "Calls that do not depend on each other belong into one response: they run side by side.\n"
    "A call that failed or was stopped says so in its result. Read it before you try again.\n"
    "When no tool is needed any more, answer in prose. That answer ends your turn."
)
_BATCH: Final = (
    f"If you can make only one call at a time, use `{BATCH_TOOL}` to make several independent "
    "calls in one."
)


class StandardProtocol:
    """The default protocol. Without state: one serves all sessions of a core."""

    __slots__ = ("driver",)

    id: Final = "standard_protocol"
    sync_execution_environment: Final = True
    """Tools and prompt are looked at again before each model call of a turn."""
    preamble: Final = PromptLayer.defaults()
    """The outermost prompt layer: empty, because all it has to say is its execution prompt."""

    def __init__(self) -> None:
        self.driver: ProtocolDriver = StandardDriver()

    def execution_prompt(self, tool_names: Collection[str]) -> str:
        """How to work in this protocol, for a model that has these tools."""
        if not tool_names:
            return _WITHOUT_TOOLS
        return f"{_WITH_TOOLS}\n{_BATCH}" if BATCH_TOOL in tool_names else _WITH_TOOLS
