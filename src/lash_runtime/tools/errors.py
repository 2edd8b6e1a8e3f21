"""The exceptions of tools.

ToolError            raised by a tool: the failure that the model is to see
ToolDefinitionError  a function that cannot be offered as a tool
ToolCatalogError     tools that cannot stand in one catalog
"""

from ..model.tool_results import NoRetry, RetrySafe, ToolFailure, ToolFailureClass
from ..model.unicode_text import storable_text


class ToolError(Exception):
    """Raise it from a tool to decide what the model is told, and whether to try again.

    `retryable=True` says that the call had no effect: it is made again when the tool's retry
    policy allows, `after_ms` milliseconds from now if given.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "tool_error",
        retryable: bool = False,
        after_ms: int | None = None,
        failure_class: ToolFailureClass = ToolFailureClass.EXECUTION,
    ) -> None:
        super().__init__(message)
        if after_ms is not None and not retryable:
            raise ValueError("after_ms is the wait before a retry: it needs retryable=True")
        self.message = message
        self.code = code
        self.retryable = retryable
        self.after_ms = after_ms
        self.failure_class = failure_class

    def failure(self) -> ToolFailure:
        """This error as the failure that is recorded and shown to the model."""
        return ToolFailure(
            class_=self.failure_class,
            code=self.code,
            message=storable_text(self.message),
            retry=RetrySafe(after_ms=self.after_ms) if self.retryable else NoRetry(),
        )


class ToolDefinitionError(TypeError):
    """A function that no model could call; raised where it is decorated."""

    code = "invalid_tool_definition"


class ToolCatalogError(ValueError):
    """Tools that cannot stand in one catalog: two of one name or id, or something that is no
    tool. Nothing was changed."""

    code = "invalid_tool_catalog"
