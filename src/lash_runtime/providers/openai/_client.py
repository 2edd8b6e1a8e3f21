"""The SDK client that carries a provider's requests: the host's own, or one opened when needed.

Rule 1: the SDK's retries and timeouts are off in both cases.
Rule 2: what the host has made the host closes.
Rule 3: a client that was opened here belongs to one event loop, as its connections do.
"""

import asyncio
import importlib
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CLOSE_DEADLINE_S: Final = 2.0


def load_sdk() -> Any:
    """The `openai` package.

    Raises `ImportError` with what to install.
    """
    try:
        return importlib.import_module("openai")
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise ImportError(
            "the OpenAI-compatible provider needs the `openai` SDK: "
            "pip install 'lash-runtime[openai]'"
        ) from error


class SdkClient:
    """Gives out the client to use; `close` releases what was opened here."""

    def __init__(
        self,
        sdk: Any,
        *,
        settings: Mapping[str, Any],
        client: "AsyncOpenAI | None" = None,
    ) -> None:
        self._sdk = sdk
        self._settings = settings
        self._hosts = None if client is None else client.with_options(max_retries=0, timeout=None)
        self._own: AsyncOpenAI | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> "AsyncOpenAI":
        """The client; call it on the event loop.

        Raises `RuntimeError` while another running loop uses the client that was opened here.
        """
        if self._hosts is not None:
            return self._hosts
        loop = asyncio.get_running_loop()
        if self._own is not None and self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(
                    "this provider's connections belong to another event loop: "
                    "build one provider for each loop, or close this one first"
                )
            self._own = None  # its connections went with their loop
        if self._own is None:
            self._own = self._sdk.AsyncOpenAI(**self._settings, max_retries=0, timeout=None)
            self._loop = loop
        return self._own

    async def close(self) -> None:
        """Close the connections; idempotent, and the next `get` opens new ones."""
        own, self._own = self._own, None
        if own is None or self._settings.get("http_client") is not None:
            return
        with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
            await own.close()

    def __del__(self) -> None:
        if getattr(self, "_own", None) is not None and self._settings.get("http_client") is None:
            warnings.warn(
                "a provider with open connections was dropped: `await provider.close()`",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
