"""What a caller asks of one turn, and the tokens that tell how it is stopped."""

from dataclasses import field
from typing import Final

from anyio import to_thread

from ...model.canonical import canonical_hash
from ...model.policy import ModelSpec
from ...model.prompt import PromptLayer
from ...model.records import dataclass
from ...model.turn_input import TextItem, TurnInput
from ...ports.provider import ResolvedProvider
from ...ports.turn_ledger import StoredTurnOptions
from ...providers.shares import GivenProvider
from .cancelling import TurnCancelToken

ON_LOOP_LIMIT_CHARS: Final = 64 * 1024
"""Longer input is encoded and hashed in a thread, so that nobody else on the loop waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOverrides:
    """What differs from the session for this one turn. Nothing of it changes the session."""

    provider: GivenProvider | None = None
    model: ModelSpec | None = None
    prompt: PromptLayer = PromptLayer.defaults()
    max_turns: int | None = None

    def stored(self, *, starts_over: bool = False) -> StoredTurnOptions:
        """The part that a turn's row keeps. A provider is named, never kept."""
        return StoredTurnOptions(
            provider_id=None if self.provider is None else self.provider.kind,
            model=self.model,
            prompt=None if self.prompt.is_empty() else self.prompt,
            max_turns=self.max_turns,
            starts_over=starts_over,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """One turn to run. `provider` is what is called in place of the session's."""

    turn_id: str
    input: TurnInput
    overrides: TurnOverrides = TurnOverrides()
    provider: ResolvedProvider | None = None
    cancel: TurnCancelToken = field(default_factory=TurnCancelToken)


async def content_hash(turn_input: TurnInput, options: StoredTurnOptions) -> str:
    """What makes two submissions under one turn id the same submission."""
    size = sum(len(item.text) for item in turn_input.items if isinstance(item, TextItem))
    if size <= ON_LOOP_LIMIT_CHARS:
        return _content_hash(turn_input, options)
    return await to_thread.run_sync(_content_hash, turn_input, options)


def _content_hash(turn_input: TurnInput, options: StoredTurnOptions) -> str:
    content = {
        "input": turn_input.model_dump(mode="json", exclude={"trace_turn_id"}),
        "options": options.model_dump(mode="json", exclude={"starts_over"}),
    }
    return canonical_hash(content)
