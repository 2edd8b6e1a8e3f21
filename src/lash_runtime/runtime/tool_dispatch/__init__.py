"""Runs the tool calls of one model response."""

from .batch_runner import ToolBatchRunner

__all__ = ["ToolBatchRunner"]
