"""Shared by all tests: one event loop, asyncio's own, and no clock that could fail a test."""

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no reason for a law to be broken.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
