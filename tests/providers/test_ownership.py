"""Who closes a provider."""

from pathlib import Path

import pytest

from lash_runtime import LashCore
from lash_runtime.providers import ProviderHandle
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio


async def test_a_core_closes_the_provider_it_was_given(tmp_path: Path) -> None:
    """A provider made inside of the call that opens the core is in nobody else's hands."""
    provider = ScriptedProvider([Call.text("hello")])
    async with LashCore.open(tmp_path / "a.db", provider=provider, model="m") as core:
        async with core.session("s") as session:
            await session.turn("hello").run()
        assert not provider.closed
    assert provider.closed


async def test_a_core_leaves_a_handle_open_for_whoever_made_it(tmp_path: Path) -> None:
    """It may serve other cores, which are still running."""
    provider = ScriptedProvider()
    handle = ProviderHandle.of(provider)
    async with LashCore.open(tmp_path / "a.db", provider=handle, model="m"):
        pass
    assert not provider.closed
    await handle.close()
    assert provider.closed
