"""Where the environments are kept that background processes run in.

An environment is what a process needs of its host's settings, as bytes. Whoever writes it names it,
and may do so for any number of processes and sessions: it is no session's, and no deletion of one
touches it.
"""

from typing import Protocol

from .durability import DurabilityTier


class ProcessExecutionEnvStore(Protocol):
    """Bytes under refs. Any text is a ref; it is compared as it is.

    Raises `StoreBackendError` where it cannot be reached or where what a ref leads to is damaged.
    Cancellation, for both methods: the call happened or it did not, and the store stays usable.
    """

    @property
    def durability_tier(self) -> DurabilityTier: ...

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        """Keep `content` under `env_ref`, in place of what was kept there.

        Of several that put under one ref at once, one is last, and its bytes are kept whole.
        """
        ...

    async def get_process_execution_env(self, env_ref: str) -> bytes | None:
        """What was put last; `None` where nothing was.

        Raises `StoreBackendError` for a ref whose bytes are missing: there is a difference between
        an environment that nobody gave and one that was lost.
        """
        ...
