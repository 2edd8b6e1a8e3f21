"""What survives the process, as every store and host declares it."""

from enum import IntEnum


class DurabilityTier(IntEnum):
    """`INLINE` dies with the process; `DURABLE` does not."""

    INLINE = 0
    DURABLE = 1
