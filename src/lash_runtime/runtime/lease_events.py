"""What becomes of leases, told to the log `lash_runtime.leases`.

For whoever asks why a session is busy. A record's message begins with its event; the same is in
its attributes `lease_event`, `session_id`, `owner_id`, `incarnation_id` and `fencing_token`, for
handlers that keep structure. What is lost is a warning, everything else is for debugging.
"""

import logging
from enum import StrEnum
from typing import Final

from ..ports.leases import SessionExecutionLeaseFence

log: Final = logging.getLogger("lash_runtime.leases")


class LeaseEvent(StrEnum):
    ACQUIRED = "session_execution_lease.acquired"
    RENEWED = "session_execution_lease.renewed"
    BUSY = "session_execution_lease.busy"
    """Somebody else holds it; the record names them."""

    RELEASED = "session_execution_lease.released"
    LOST = "session_execution_lease.lost"


def tell(event: LeaseEvent, fence: SessionExecutionLeaseFence) -> None:
    """Log that this happened to the lease that `fence` is the proof of."""
    level = logging.WARNING if event is LeaseEvent.LOST else logging.DEBUG
    if not log.isEnabledFor(level):
        return
    facts = {
        "session_id": fence.session_id,
        "owner_id": fence.owner.owner_id,
        "incarnation_id": fence.owner.incarnation_id,
        "fencing_token": fence.fencing_token,
    }
    log.log(
        level,
        "%s: session %r, owner %r, incarnation %r, fencing token %d",
        event.value,
        *facts.values(),
        extra={"lease_event": event.value, **facts},
    )
