"""What a caller asks of one turn, and the tokens that tell how it is stopped."""

from dataclasses import dataclass, field

from ...model.canonical import canonical_hash
from ...model.policy import ModelSpec, ProtocolTurnOptions
from ...model.prompt import PromptLayer
from ...model.turn_input import TurnInput
from ...ports.cancel import CancelToken
from ...ports.provider import ResolvedProvider
from ...ports.turn_ledger import StoredTurnOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOverrides:
    """What differs from the session for this one turn. Nothing of it changes the session."""

    provider: ResolvedProvider | None = None
    model: ModelSpec | None = None
    prompt: PromptLayer = PromptLayer()
    max_turns: int | None = None
    protocol_turn_options: ProtocolTurnOptions | None = None

    def stored(self) -> StoredTurnOptions:
        """The part that a turn's row keeps. A provider is named, never kept."""
        return StoredTurnOptions(
            provider_id=None if self.provider is None else self.provider.kind,
            model=self.model,
            prompt=None if self.prompt.is_empty() else self.prompt,
            max_turns=self.max_turns,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """One turn to run."""

    turn_id: str
    input: TurnInput
    overrides: TurnOverrides = TurnOverrides()
    cancel: CancelToken = field(default_factory=CancelToken)


def content_hash(turn_input: TurnInput, options: StoredTurnOptions) -> str:
    """What makes two submissions under one turn id the same submission."""
    content = {
        "input": turn_input.model_dump(mode="json", exclude={"trace_turn_id"}),
        "options": options.model_dump(mode="json"),
    }
    return canonical_hash(content)
