"""Providers as hosts pass them, and as one core uses them: time, ids, and the end.

Rule 1: a `ProviderHandle` is its host's. It is used as it is and never closed here.
Rule 2: anything else is the core's for as long as somebody in it uses it. It gets the core's clock
and ids, the same object is one handle for all its users, so that its limits hold over them, and
the last of them closes it.
Rule 3: a provider that will not close holds nobody up.
"""

import dataclasses
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Self

import anyio

from ..model.records import dataclass
from ..ports.clock import Clock
from ..ports.ids import IdSource
from ..ports.provider import Provider, ResolvedProvider
from .components import ProviderComponents
from .handle import ProviderHandle, as_handle

log = logging.getLogger(__name__)

CLOSE_DEADLINE_S: Final = 5.0
"""How long a provider may take to close before it is left to itself."""


@dataclass(frozen=True, slots=True)
class GivenProvider:
    """What a setter was given, and a handle that knows what it is called. A core makes its own
    of it before anything is called."""

    given: object
    handle: ProviderHandle

    @classmethod
    def of(cls, provider: ProviderHandle | ProviderComponents | Provider) -> Self:
        return cls(provider, as_handle(provider))

    @property
    def kind(self) -> str:
        return self.handle.kind

    @property
    def is_the_hosts(self) -> bool:
        return self.given is self.handle


@dataclasses.dataclass(slots=True)
class _Share:
    """One provider with the number of those who use it. Keeps it alive, and so its id its own."""

    given: object
    handle: ProviderHandle
    users: int = 0


class ProviderUse:
    """One user's hold on a provider: that of the core, of an open session, or of a turn."""

    __slots__ = ("_leave", "provider")

    def __init__(
        self, provider: ResolvedProvider, leave: Callable[[], Awaitable[None]] | None
    ) -> None:
        self.provider = provider
        self._leave = leave

    async def end(self) -> None:
        """Give it up; the last user closes it. Idempotent, bounded, safe while cancelled."""
        leave, self._leave = self._leave, None
        if leave is not None:
            await leave()


class ProviderShares:
    """The providers that are in use in one core."""

    def __init__(self, *, clock: Clock, ids: IdSource) -> None:
        self._clock = clock
        self._ids = ids
        # By identity: a provider need not be hashable.
        self._shares: dict[int, _Share] = {}

    def use(self, given: GivenProvider) -> ProviderUse:
        """Take hold of the provider; whoever does so has to `end()` the use."""
        if given.is_the_hosts:
            return ProviderUse(given.handle, None)
        share = self._shares.get(id(given.given))
        if share is None:
            share = _Share(given.given, given.handle.with_time(self._clock, self._ids))
            self._shares[id(given.given)] = share
        share.users += 1
        return ProviderUse(share.handle, partial(self._leave, share))

    async def aclose(self) -> None:
        """Close every provider that somebody still holds."""
        while self._shares:
            _, share = self._shares.popitem()
            await _close(share.handle)

    async def _leave(self, share: _Share) -> None:
        share.users -= 1
        if share.users == 0 and self._shares.get(id(share.given)) is share:
            # Before the first await: whoever comes meanwhile begins a share of its own, and a
            # provider that was closed opens again when it is called.
            del self._shares[id(share.given)]
            await _close(share.handle)


async def _close(handle: ProviderHandle) -> None:
    with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True) as waiting:
        try:
            await handle.close()
        except Exception as error:
            # Its text may hold a key or a URL with one.
            log.warning("provider %r did not close: %s", handle.kind, type(error).__name__)
    if waiting.cancelled_caught:
        log.warning("provider %r did not close in time", handle.kind)
