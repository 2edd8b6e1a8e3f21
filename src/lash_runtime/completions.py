"""Answers from outside for what waits inside. `core.completions()`."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import ValidationError

from ._arguments import a_text, an
from ._translation import translated
from .errors import InvalidAwaitEventKey, InvalidConfiguration
from .ports.await_events import (
    AwaitEventKey,
    Resolution,
    ResolvedCancelled,
    ResolvedErr,
    ResolvedOk,
    ResolvedTimeout,
    ResolveOutcome,
    resolution_text,
)
from .ports.effect_errors import EffectControllerError
from .runtime.environment import RuntimeEnvironment

RESOLUTIONS: Final = (ResolvedOk, ResolvedErr, ResolvedTimeout, ResolvedCancelled)


class Completions:
    """Answers durable waits, whoever waits and wherever: in this process, in another one, or in
    one that is yet to be started.

    A key is an `AwaitEventKey` or its JSON text. The first answer counts and the outcome says
    whether it was this one: `ResolveAccepted`, `AlreadyResolved` with the answer that was, or
    `UnknownOrRevoked` for a key that is forged, of a deleted session or of another deployment.
    Asking again with the same answer is safe.

    Raises `InvalidAwaitEventKey` for a text that is no key, and `InvalidConfiguration` for an
    answer that is not JSON.
    """

    __slots__ = ("_started",)

    def __init__(self, started: Callable[[], Awaitable[RuntimeEnvironment]]) -> None:
        self._started = started

    async def resolve(self, key: AwaitEventKey | str, resolution: Resolution) -> ResolveOutcome:
        """Answer with any resolution."""
        wanted = _a_key(key)
        _check(resolution)
        with translated():
            env = await self._started()
            return await env.await_events.resolve_await_event(wanted, resolution)

    async def complete(self, key: AwaitEventKey | str, value: Any = None) -> ResolveOutcome:
        """Answer that it is done, with `value`, which is JSON."""
        return await self.resolve(key, ResolvedOk(payload=value))

    async def fail(
        self, key: AwaitEventKey | str, code: str, message: str, *, raw: Any = None
    ) -> ResolveOutcome:
        """Answer that it went wrong. `raw` is whatever else is known, as JSON."""
        a_text(code, "the code of a failure")
        a_text(message, "the message of a failure")
        return await self.resolve(key, ResolvedErr(code=code, message=message, raw=raw))


def _a_key(key: AwaitEventKey | str) -> AwaitEventKey:
    if isinstance(key, str):
        try:
            return AwaitEventKey.model_validate_json(key)
        except ValidationError:
            raise InvalidAwaitEventKey from None
    return an(AwaitEventKey, key, "a key is an AwaitEventKey or its JSON text")


def _check(resolution: Resolution) -> None:
    an(RESOLUTIONS, resolution, "a resolution is a ResolvedOk or another of its kind")
    try:
        resolution_text(resolution)
    except EffectControllerError as error:
        raise InvalidConfiguration(error.message) from error
