"""A session as hosts and observers see it at one committed instant.

A view is a handful of references into shared, append-only data: taking one costs nothing,
keeping one pins no copy, and what it shows never changes.
"""

from ..model.messages import Message
from ..model.policy import ProtocolTurnOptions, SessionPolicy
from ..model.records import dataclass
from ..model.usage import PromptUsage, TokenUsage
from .chronology import ChronologicalEntry, chronological_projection
from .graph import SessionGraph
from .message_tree import SessionMessageTreeNode, message_tree
from .read_model import EVERYTHING, EventRecord, FrameFilter
from .shared_sequence import SharedSequence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SessionReadView:
    """The settled state of one session: the only source of settled transcript text.

    `token_usage` is that of the last turn that has spent tokens, over all of its model calls; what
    the whole session has spent is in its `usage_report()`. `last_prompt_usage` is that of the last
    model call: how much of the context window the conversation fills by now.
    """

    session_id: str
    policy: SessionPolicy = SessionPolicy.defaults()
    turn_index: int = 0
    token_usage: TokenUsage = TokenUsage.defaults()
    last_prompt_usage: PromptUsage | None = None
    protocol_turn_options: ProtocolTurnOptions = ProtocolTurnOptions.defaults()
    graph: SessionGraph
    visible: FrameFilter = EVERYTHING

    @property
    def messages(self) -> SharedSequence[Message]:
        """The messages of the current agent frame, in order."""
        return self.graph.read_model(self.visible).messages

    @property
    def active_events(self) -> SharedSequence[EventRecord]:
        """Conversation and protocol records of the active path, in order."""
        return self.graph.read_model(self.visible).events

    def chronological_projection(self) -> tuple[ChronologicalEntry, ...]:
        """Messages and protocol events together, in order. O(n)."""
        return chronological_projection(self.active_events, self.messages)

    def message_tree(self) -> tuple[SessionMessageTreeNode, ...]:
        """All branches of the conversation. O(n)."""
        return message_tree(self.graph)
