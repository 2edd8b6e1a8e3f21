"""The values that trace sinks are given."""

from lash_runtime.ports.tracing import (
    TraceContext,
    TraceEventKind,
    TraceLevel,
    TraceSinkError,
    TraceSinkErrorKind,
)


def test_a_context_adds_to_the_one_it_is_laid_over() -> None:
    """What the host set for all records stays unless the record knows better."""
    base = TraceContext(run_id="r", session_id="s", turn_index=3, metadata={"a": 0, "b": 2})
    turn = TraceContext(session_id="child", turn_index=0, metadata={"a": 1})
    assert turn.over(base) == TraceContext(
        run_id="r", session_id="child", turn_index=0, metadata={"a": 1, "b": 2}
    )
    assert base.metadata == {"a": 0, "b": 2}


def test_only_what_streams_needs_the_extended_level() -> None:
    """Prompts and answers piece by piece are traced on request alone."""
    extended = {kind for kind in TraceEventKind if kind.level is TraceLevel.EXTENDED}
    assert extended == {
        TraceEventKind.PROVIDER_STREAM_EVENT,
        TraceEventKind.RUNTIME_STREAM_EVENT,
    }


def test_a_sink_says_at_which_step_it_failed() -> None:
    """A full disk and a missing directory call for different people."""
    error = TraceSinkError(TraceSinkErrorKind.CREATE_DIR, "permission denied")
    assert error.kind == "create_dir"
    assert str(error) == "trace sink failed to create dir: permission denied"
