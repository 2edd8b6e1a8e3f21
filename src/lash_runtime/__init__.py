"""Durable LLM agents inside your own asyncio program."""

__all__: list[str] = []
