"""The records that a session's graph is made of, as stored.

Nodes and their payloads are plain records and no pydantic models: a session that is opened has
thousands of them, and a model takes three times the memory and the collector's time. They
are written and read as strictly as models are.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter

from ._value import STRICT_RECORD, Value, absent_when_none, omitted_when_none
from .causes import CausalRef
from .messages import Message
from .records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationRecord:
    """A message as an event of the session's history."""

    __pydantic_config__ = STRICT_RECORD

    type: Literal["conversation"] = "conversation"
    message: Message

    @classmethod
    def of(cls, message: Message) -> Self:
        return cls(message=message)

    @property
    def id(self) -> str:
        return self.message.id


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolEvent:
    """A fact that a protocol or plugin keeps in the history, opaque to the runtime."""

    __pydantic_config__ = STRICT_RECORD

    type: Literal["protocol"] = "protocol"
    plugin_id: str
    payload: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginPayload:
    """What a plugin keeps beside the history: a node that is no event of it."""

    __pydantic_config__ = STRICT_RECORD

    type: Literal["plugin"] = "plugin"
    plugin_type: str
    body: Any


# One level, under one tag: each level more costs every node of every session that is opened.
NodePayload = Annotated[
    ConversationRecord | ProtocolEvent | PluginPayload, Field(discriminator="type")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNodeRecord:
    """One node of a session's graph. `timestamp` is RFC 3339, shared by one append batch."""

    __pydantic_config__ = STRICT_RECORD

    node_id: str
    parent_node_id: Annotated[str | None, absent_when_none()] = None
    caused_by: Annotated[CausalRef | None, absent_when_none()] = None
    agent_frame_id: Annotated[str | None, absent_when_none()] = None
    timestamp: str
    payload: NodePayload

    @property
    def event(self) -> ConversationRecord | ProtocolEvent | None:
        """The event of the history that this node is; `None` for what a plugin keeps beside it."""
        payload = self.payload
        return None if isinstance(payload, PluginPayload) else payload

    @property
    def conversation(self) -> ConversationRecord | None:
        payload = self.payload
        return payload if isinstance(payload, ConversationRecord) else None


# One for both, because each takes milliseconds to build. Built at its first use.
_NODES: Final[TypeAdapter[tuple[SessionNodeRecord, ...]]] = TypeAdapter(
    tuple[SessionNodeRecord, ...], config=ConfigDict(defer_build=True)
)


def encode_node(node: SessionNodeRecord) -> str:
    """The node as JSON; what is absent from it is left out."""
    return _NODES.dump_json((node,))[1:-1].decode()


def decode_nodes(texts: Iterable[str]) -> tuple[SessionNodeRecord, ...]:
    """Nodes from their JSON, all in one call, which is several times cheaper than one by one.

    Raises pydantic's `ValidationError` unless each is exactly a node.
    """
    return _NODES.validate_json(f"[{','.join(texts)}]")


class MessageNode(Value):
    """A message to append; it gets an origin and part ids if it has none."""

    kind: Literal["message"] = "message"
    message: Message
    caused_by: CausalRef | None = omitted_when_none()


class ProtocolEventNode(Value):
    kind: Literal["protocol_event"] = "protocol_event"
    plugin_id: str
    payload: Any
    caused_by: CausalRef | None = omitted_when_none()


class PluginNode(Value):
    kind: Literal["plugin"] = "plugin"
    plugin_type: str
    body: Any
    caused_by: CausalRef | None = omitted_when_none()


SessionAppendNode = Annotated[
    MessageNode | ProtocolEventNode | PluginNode, Field(discriminator="kind")
]
"""What a host or plugin may append to a session's graph."""
