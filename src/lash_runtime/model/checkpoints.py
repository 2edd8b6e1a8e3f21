"""The two moments of a turn at which waiting input may join it."""

from enum import StrEnum


class CheckpointKind(StrEnum):
    """`after_work`: tool results are in, the next model call is due. `before_completion`: the
    answer is ready and the turn is about to finish."""

    AFTER_WORK = "after_work"
    BEFORE_COMPLETION = "before_completion"
