"""The records that a session's graph is made of, as stored."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter

from ._value import Value, omitted_when_none
from .causes import CausalRef
from .messages import Message


class ConversationRecord(Value):
    """A message as an event of the session's history."""

    type: Literal["conversation"] = "conversation"
    message: Message

    @classmethod
    def of(cls, message: Message) -> Self:
        return cls(message=message)

    @property
    def id(self) -> str:
        return self.message.id


class ProtocolEvent(Value):
    """A fact that a protocol or plugin keeps in the history, opaque to the runtime."""

    type: Literal["protocol"] = "protocol"
    plugin_id: str
    payload: Any


class PluginPayload(Value):
    """What a plugin keeps beside the history: a node that is no event of it."""

    type: Literal["plugin"] = "plugin"
    plugin_type: str
    body: Any


# One level, under one tag: each level more costs every node of every session that is opened.
NodePayload = Annotated[
    ConversationRecord | ProtocolEvent | PluginPayload, Field(discriminator="type")
]


class SessionNodeRecord(Value):
    """One node of a session's graph. `timestamp` is RFC 3339, shared by one append batch."""

    node_id: str
    parent_node_id: str | None = omitted_when_none()
    caused_by: CausalRef | None = omitted_when_none()
    agent_frame_id: str | None = omitted_when_none()
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


NODE_LIST: TypeAdapter[tuple[SessionNodeRecord, ...]] = TypeAdapter(
    tuple[SessionNodeRecord, ...], config=ConfigDict(defer_build=True)
)
"""Decodes many nodes in one call, which is several times cheaper than one by one."""


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
