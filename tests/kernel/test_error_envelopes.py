"""Errors as a turn keeps them: everything that helps, and not a megabyte of it."""

from hypothesis import example, given
from hypothesis import strategies as st

from lash_runtime.kernel.error_envelopes import (
    RAW_TEXT_LIMIT,
    clipped_raw_text,
    provider_error_event,
)
from lash_runtime.model.llm import LlmCallError, ProviderFailureKind


@example("a line of a page\n", 1_000)
@given(st.text(max_size=60), st.integers(0, 200))
def test_raw_text_is_bounded_and_keeps_both_its_ends(piece: str, times: int) -> None:
    """The cause of an error page is at its top, that of a stack trace at its bottom."""
    raw = piece * times
    clipped = clipped_raw_text(raw)
    text = raw.strip()
    if not text:
        assert clipped is None
    elif len(text) <= RAW_TEXT_LIMIT:
        assert clipped == text
    else:
        half = RAW_TEXT_LIMIT // 2
        assert clipped.startswith(text[:half])
        assert clipped.endswith(text[-half:])
        assert str(len(text) - RAW_TEXT_LIMIT) in clipped
        assert len(clipped) < RAW_TEXT_LIMIT + 60


def test_an_unknown_kind_of_failure_is_left_out() -> None:
    """A host that branches on the kind must not find one that says nothing."""
    unknown = provider_error_event(LlmCallError(message="no"))
    known = provider_error_event(LlmCallError(message="no", kind=ProviderFailureKind.AUTH))
    assert unknown.envelope.provider_failure_kind is None
    assert known.envelope.provider_failure_kind is ProviderFailureKind.AUTH
