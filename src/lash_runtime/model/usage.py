"""Token counts: of a call, of a prompt, and the ledger that a session keeps of them."""

from collections.abc import Iterable, Mapping
from typing import Final, Self

from ._value import Value


class TokenUsage(Value):
    """Tokens of one or more model calls. `input_tokens` excludes what a cache served."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_output_tokens: int = 0

    @property
    def total(self) -> int:
        """All tokens once; reasoning is part of the output and is not added again."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_read_input_tokens
            + self.cache_write_input_tokens
        )

    @property
    def input_total(self) -> int:
        return self.input_tokens + self.cache_read_input_tokens + self.cache_write_input_tokens

    def is_zero(self) -> bool:
        return self.total == 0 and self.reasoning_output_tokens == 0

    def add(self, other: Self) -> Self:
        return type(self)(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_input_tokens=self.cache_read_input_tokens + other.cache_read_input_tokens,
            cache_write_input_tokens=self.cache_write_input_tokens + other.cache_write_input_tokens,
            reasoning_output_tokens=self.reasoning_output_tokens + other.reasoning_output_tokens,
        )


NO_USAGE: Final = TokenUsage.defaults()
"""Nothing spent."""

LlmUsage = TokenUsage
"""The same five counters, under the name they have at the provider seam."""


class PromptUsage(Value):
    """What the latest model call says about the size of the prompt."""

    prompt_context_tokens: int
    input_tokens: int
    cache_read_input_tokens: int
    cache_write_input_tokens: int
    context_budget_tokens: int

    @classmethod
    def from_usage(cls, usage: TokenUsage) -> Self | None:
        """`None` when the call reported nothing; negative counters count as zero."""
        fresh = max(0, usage.input_tokens)
        read = max(0, usage.cache_read_input_tokens)
        written = max(0, usage.cache_write_input_tokens)
        output = max(0, usage.output_tokens)
        if fresh + read + written + output == 0:
            return None
        prompt = fresh + read + written
        return cls(
            prompt_context_tokens=prompt,
            input_tokens=fresh,
            cache_read_input_tokens=read,
            cache_write_input_tokens=written,
            context_budget_tokens=prompt + output,
        )


class TokenLedgerEntry(Value):
    """Usage of one source (`turn`, `child`, a plugin's name) on one model."""

    source: str
    model: str
    usage: TokenUsage


def merge_ledger(entries: Iterable[TokenLedgerEntry]) -> tuple[TokenLedgerEntry, ...]:
    """One entry for each (source, model), in first-seen order, without those of no tokens."""
    merged: dict[tuple[str, str], TokenUsage] = {}
    for entry in entries:
        if entry.usage.total == 0:
            continue
        key = (entry.source, entry.model)
        known = merged.get(key)
        merged[key] = entry.usage if known is None else known.add(entry.usage)
    return tuple(
        TokenLedgerEntry(source=source, model=model, usage=usage)
        for (source, model), usage in merged.items()
    )


class UsageTotals(TokenUsage):
    """The five counters with their sum written out, as reports show them."""

    total_tokens: int = 0

    @classmethod
    def of(cls, usage: TokenUsage) -> Self:
        return cls(**usage.model_dump(), total_tokens=usage.total)


class UsageRow(Value):
    source: str
    model: str
    usage: UsageTotals


class SessionUsageReport(Value):
    """What a session has spent, by source, by model and by both."""

    entry_count: int
    usage: UsageTotals
    by_source: Mapping[str, UsageTotals]
    by_model: Mapping[str, UsageTotals]
    by_source_model: tuple[UsageRow, ...]

    @classmethod
    def from_entries(cls, entries: Iterable[TokenLedgerEntry]) -> Self:
        rows = merge_ledger(entries)
        by_source: dict[str, TokenUsage] = {}
        by_model: dict[str, TokenUsage] = {}
        total = TokenUsage()
        for row in rows:
            total = total.add(row.usage)
            by_source[row.source] = by_source.get(row.source, TokenUsage()).add(row.usage)
            by_model[row.model] = by_model.get(row.model, TokenUsage()).add(row.usage)
        return cls(
            entry_count=len(rows),
            usage=UsageTotals.of(total),
            by_source={name: UsageTotals.of(by_source[name]) for name in sorted(by_source)},
            by_model={name: UsageTotals.of(by_model[name]) for name in sorted(by_model)},
            by_source_model=tuple(
                UsageRow(source=row.source, model=row.model, usage=UsageTotals.of(row.usage))
                for row in rows
            ),
        )
