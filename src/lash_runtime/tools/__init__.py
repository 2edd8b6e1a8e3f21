"""Tools: made from functions, collected in a catalog, checked before they are called."""

from .batch import batch_tool
from .catalog import ToolCatalog
from .errors import ToolCatalogError, ToolDefinitionError, ToolError
from .function_tool import FunctionTool, tool
from .providers import FunctionToolProvider, StaticToolProvider, ToolExecutor
from .results import ToolResult

__all__ = [
    "FunctionTool",
    "FunctionToolProvider",
    "StaticToolProvider",
    "ToolCatalog",
    "ToolCatalogError",
    "ToolDefinitionError",
    "ToolError",
    "ToolExecutor",
    "ToolResult",
    "batch_tool",
    "tool",
]
