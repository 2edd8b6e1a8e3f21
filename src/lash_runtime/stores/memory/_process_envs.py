"""Environments of processes in memory, by their refs."""

from ...ports.durability import DurabilityTier
from ._library import Library


class MemoryProcessEnvs:
    """The `ProcessExecutionEnvStore` of a storage."""

    durability_tier = DurabilityTier.INLINE

    def __init__(self, library: Library) -> None:
        self._library = library
        self._contents: dict[str, bytes] = {}

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        self._library.check_open()
        self._contents[env_ref] = bytes(content)

    async def get_process_execution_env(self, env_ref: str) -> bytes | None:
        self._library.check_open()
        return self._contents.get(env_ref)
