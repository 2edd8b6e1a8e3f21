"""`OpenAICompatibleProvider`: any endpoint that speaks Chat Completions."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

from anyio import to_thread
from pydantic import ConfigDict, SecretStr

from ...model._value import Value, omitted_when_none
from ...model.llm import LlmRequest, LlmResponse
from ...ports.clock import Clock, SystemClock
from ...ports.ids import IdSource, SystemIds
from ...ports.provider import ProviderFailure, ProviderOptions
from ..components import ProviderComponents
from ..deadlines import Deadlines
from ._answer import Answer
from ._client import SdkClient, load_sdk
from ._compat import OPENAI_URL, OpenAICompat, ReasoningFormat, StreamTermination
from ._exchange import PATH, Exchange
from ._failures import without_secrets
from ._replay import ReplayRoute
from ._request import build_body
from ._scope_headers import scope_headers

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEYLESS: Final = "-"
"""Sent to an endpoint that takes any key, since the SDK insists on one. Too short to be cut out
of error messages, where it would be part of words."""

INLINE_ATTACHMENT_BYTES: Final = 256 * 1024
"""More than this is encoded in a thread: it would hold up the event loop for milliseconds."""

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh")


class OpenAICompatibleConfig(Value):
    """All that is needed to build the provider again; the key is shown by no `repr`."""

    # What stands where it does not belong may be the key, and errors are read by everybody.
    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: SecretStr
    base_url: str
    options: ProviderOptions = ProviderOptions.defaults()
    compat: OpenAICompat | None = omitted_when_none()


class OpenAICompatibleProvider:
    """Calls an endpoint that speaks OpenAI's Chat Completions, through the official SDK.

    Without arguments it reads `OPENAI_API_KEY` and `OPENAI_BASE_URL`. A `client` of the host's
    own (Azure's, say) brings both with it; an `http_client` replaces the transport alone.
    Neither is closed here. Retries and timeouts are this library's, whatever the client's are.

    Raises `ImportError` without the `openai` extra, and `ValueError` for a missing key or a
    base URL that is none.
    """

    kind = "openai-compatible"
    requires_streaming = False

    def __init__(
        self,
        *,
        api_key: str | SecretStr | None = None,
        base_url: str | None = None,
        options: ProviderOptions | None = None,
        compat: OpenAICompat | None = None,
        client: "AsyncOpenAI | None" = None,
        http_client: Any = None,
        default_headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        self._sdk = load_sdk()
        if client is not None and (api_key or base_url or http_client or default_headers):
            raise ValueError(
                "`client` brings its own key, URL, headers and transport: pass it alone"
            )
        if client is not None:
            key, url = client.api_key or "", str(client.base_url)
        else:
            url = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
            key = _checked_key(_revealed(api_key) or os.environ.get("OPENAI_API_KEY") or "")
        self._base_url = _checked_url(url)
        self._stated_compat = compat
        self._compat = (compat or OpenAICompat()).resolved(_without_credentials(self._base_url))
        if not key and client is None:
            if not self._compat.keyless:
                raise ValueError("no API key: pass `api_key`, or set OPENAI_API_KEY")
            key = KEYLESS
        self._key = SecretStr(key)
        self._options = options or ProviderOptions()
        self._clock: Clock = clock or SystemClock()
        self._ids: IdSource = ids or SystemIds()
        settings = {
            "api_key": key,
            "base_url": self._base_url,
            "http_client": http_client,
            "default_headers": dict(default_headers or {}),
        }
        self._client = SdkClient(self._sdk, settings=settings, client=client)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `serialize_config` gave.

        Raises `ValueError` naming the key that is missing, unknown or wrong.
        """
        parsed = OpenAICompatibleConfig.model_validate(dict(config))
        return cls(
            api_key=parsed.api_key,
            base_url=parsed.base_url,
            options=parsed.options,
            compat=parsed.compat,
        )

    def options(self) -> ProviderOptions:
        return self._options

    def set_options(self, options: ProviderOptions) -> None:
        self._options = options

    def serialize_config(self) -> Mapping[str, Any]:
        config: dict[str, Any] = {
            "api_key": self._key.get_secret_value(),
            "base_url": self._base_url,
        }
        if options := self._options.model_dump(mode="json"):
            config["options"] = options
        if self._stated_compat is not None:
            config["compat"] = self._stated_compat.model_dump(mode="json")
        return config

    def components(self) -> ProviderComponents:
        """The provider with the model variants that its endpoint takes."""
        return ProviderComponents(provider=self, model_policy=self)

    def supported_variants(self, model: str) -> Sequence[str]:
        """Reasoning efforts, as far as the model's name tells; a host's own policy knows better."""
        name = model.lower()
        match self._compat.reasoning_format:
            case ReasoningFormat.OPEN_ROUTER:
                known = any(mark in name for mark in ("gpt", "claude", "gemini-3"))
            case ReasoningFormat.OPEN_AI:
                bare = name.rpartition("/")[2]
                known = bare.startswith(("gpt-5", "o"))
            case _:
                known = False
        return EFFORTS if known else ()

    async def complete(self, request: LlmRequest) -> LlmResponse:
        """Make one attempt; see `Provider.complete`."""
        options = self._options
        try:
            body = await self._body(request, options)
            exchange = Exchange(
                self._sdk,
                self._client.get(),
                request,
                Answer(
                    emit=request.stream_events,
                    expose_thinking=options.expose_thinking,
                    route=self._route(request),
                    ids=self._ids,
                ),
                Deadlines(self._clock),
                kind=self.kind,
                http_summary=self._http_summary(request),
                termination=self._compat.stream_termination
                or StreamTermination.REQUIRE_TERMINAL_EVIDENCE,
            )
            headers = scope_headers(request.scope) if self._compat.cache_session_affinity else {}
            return await exchange.run(body, headers, options.reliability)
        except ProviderFailure as failure:
            # Without the cause: the SDK's errors hold the request, and that holds the key.
            raise without_secrets(failure, [self._key.get_secret_value()]) from None

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._client.close()

    async def _body(self, request: LlmRequest, options: ProviderOptions) -> dict[str, Any]:
        arguments = (request, options, self._compat, self._route(request))
        if (
            sum(len(attachment.data) for attachment in request.attachments)
            > INLINE_ATTACHMENT_BYTES
        ):
            return await to_thread.run_sync(build_body, *arguments)
        return build_body(*arguments)

    def _route(self, request: LlmRequest) -> ReplayRoute:
        return ReplayRoute(_without_credentials(self._base_url), request.model)

    def _http_summary(self, request: LlmRequest) -> str:
        streamed = " (stream)" if request.stream_events is not None else ""
        return f"HTTP POST {_without_credentials(self._base_url)}{PATH}{streamed}"

    def __repr__(self) -> str:
        return f"OpenAICompatibleProvider(base_url={_without_credentials(self._base_url)!r})"


class OpenAICompatibleFactory:
    """Builds `OpenAICompatibleProvider` from configuration."""

    kind = OpenAICompatibleProvider.kind

    def deserialize(self, config: Mapping[str, Any]) -> ProviderComponents:
        """Raises `ValueError` naming the key that is missing, unknown or wrong, and no value."""
        return OpenAICompatibleProvider.from_config(config).components()


def _revealed(key: str | SecretStr | None) -> str | None:
    return key.get_secret_value() if isinstance(key, SecretStr) else key


def _checked_key(key: str) -> str:
    """Without the line end that a key read from a file has."""
    stripped = key.strip()
    if not (stripped.isascii() and stripped.isprintable()):
        raise ValueError("the API key has characters that no header can carry")
    return stripped


def _checked_url(url: str) -> str:
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url is not an http(s) URL: {_without_credentials(url)!r}")
    return url.strip().rstrip("/")


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
