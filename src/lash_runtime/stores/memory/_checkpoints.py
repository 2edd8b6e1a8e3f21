"""Checkpoints: components by content address, carried forward by ref.

A component with a payload is stored and gets a new ref. One with a ref alone is the one that is
already there; a ref to nothing is an error, because the session would go on without its state.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from ...model.canonical import canonical_hash
from ...model.frames import AgentFrameRecord
from ...model.tools import ToolState
from ...ports.session_state import (
    BlobRef,
    HydratedSessionCheckpoint,
    PluginSessionSnapshot,
    SessionCheckpoint,
)
from ...ports.store_errors import StoreBackendError

T = TypeVar("T")


def _bytes_digest(data: bytes) -> BlobRef:
    return hashlib.sha256(data).hexdigest()


class _Shelf(Generic[T]):
    """The payloads of one kind of component, by digest."""

    __slots__ = ("_digest", "_payloads")

    def __init__(self, digest: Callable[[T], BlobRef]) -> None:
        self._digest = digest
        self._payloads: dict[BlobRef, T] = {}

    def resolve(self, ref: BlobRef | None, payload: T | None) -> tuple[BlobRef | None, T | None]:
        """What a commit means by `ref` and `payload`; changes nothing."""
        if payload is not None:
            return self._digest(payload), payload
        if ref is None:
            return None, None
        if ref not in self._payloads:
            raise StoreBackendError(f"no checkpoint component is stored under {ref!r}")
        return ref, self._payloads[ref]

    def keep(self, ref: BlobRef | None, payload: T | None, others: Iterable[BlobRef] = ()) -> None:
        """Hold this payload and what `others` name; drop the rest."""
        kept = {name: self._payloads[name] for name in others if name in self._payloads}
        if ref is not None and payload is not None:
            kept[ref] = payload
        self._payloads = kept


class Checkpoints:
    """The components that a session's head and frames refer to."""

    __slots__ = ("_execution", "_plugins", "_tools")

    def __init__(self) -> None:
        self._tools: _Shelf[ToolState] = _Shelf(canonical_hash)
        self._plugins: _Shelf[PluginSessionSnapshot] = _Shelf(canonical_hash)
        self._execution: _Shelf[bytes] = _Shelf(_bytes_digest)

    def resolve(self, given: HydratedSessionCheckpoint) -> HydratedSessionCheckpoint:
        """`given` with every ref and payload filled in; changes nothing."""
        tools_ref, tools = self._tools.resolve(given.tool_state_ref, given.tool_state)
        plugins_ref, plugins = self._plugins.resolve(
            given.plugin_snapshot_ref, given.plugin_snapshot
        )
        execution_ref, execution = self._execution.resolve(
            given.execution_state_ref, given.execution_state
        )
        return HydratedSessionCheckpoint(
            turn_state=given.turn_state,
            tool_state_ref=tools_ref,
            tool_state=tools,
            plugin_snapshot_ref=plugins_ref,
            plugin_snapshot=plugins,
            plugin_snapshot_revision=given.plugin_snapshot_revision,
            execution_state_ref=execution_ref,
            execution_state=execution,
        )

    def keep(self, resolved: HydratedSessionCheckpoint, frames: Iterable[AgentFrameRecord]) -> None:
        """Hold what `resolved` names, and the execution state that each frame was left with."""
        self._tools.keep(resolved.tool_state_ref, resolved.tool_state)
        self._plugins.keep(resolved.plugin_snapshot_ref, resolved.plugin_snapshot)
        self._execution.keep(
            resolved.execution_state_ref,
            resolved.execution_state,
            [f.execution_state_ref for f in frames if f.execution_state_ref is not None],
        )


def manifest_of(resolved: HydratedSessionCheckpoint) -> SessionCheckpoint:
    return SessionCheckpoint(
        turn_state=resolved.turn_state,
        tool_state_ref=resolved.tool_state_ref,
        plugin_snapshot_ref=resolved.plugin_snapshot_ref,
        plugin_snapshot_revision=resolved.plugin_snapshot_revision,
        execution_state_ref=resolved.execution_state_ref,
    )
