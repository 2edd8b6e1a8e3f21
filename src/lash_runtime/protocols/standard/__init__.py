"""The standard protocol: the model calls tools natively and answers in prose."""

from .driver import StandardDriver
from .protocol import StandardProtocol

__all__ = ["StandardDriver", "StandardProtocol"]
