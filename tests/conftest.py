"""Shared by all tests: one event loop, asyncio's own."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
