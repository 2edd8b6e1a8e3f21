"""Environments of processes, kept as artifacts."""

from functools import partial

from anyio import to_thread

from ...ports.attachments import OFF_LOOP_BYTES
from ...ports.durability import DurabilityTier
from . import _artifacts
from ._artifacts import Artifact, Namespace
from ._scope import StorageScope


class SqliteProcessEnvs:
    """The `ProcessExecutionEnvStore` of a storage."""

    __slots__ = ("_scope",)

    def __init__(self, scope: StorageScope) -> None:
        self._scope = scope

    @property
    def durability_tier(self) -> DurabilityTier:
        return self._scope.durability_tier

    async def put_process_execution_env(self, env_ref: str, content: bytes) -> None:
        artifact = await self._artifact(content)
        put = partial(
            _artifacts.put,
            namespace=Namespace.PROCESS_EXECUTION_ENV,
            key=env_ref,
            artifact=artifact,
        )
        await self._scope.database.write(put, len(artifact.content))

    async def get_process_execution_env(self, env_ref: str) -> bytes | None:
        get = partial(_artifacts.get, namespace=Namespace.PROCESS_EXECUTION_ENV, key=env_ref)
        return await self._scope.database.read(get)

    async def _artifact(self, content: bytes) -> Artifact:
        """Much is hashed and compressed in a thread: neither the loop nor other writers wait."""
        if len(content) > OFF_LOOP_BYTES:
            return await to_thread.run_sync(Artifact.of, content, self._scope.blob_profile)
        return Artifact.of(content, self._scope.blob_profile)
