"""How a commit names the claims that it completes."""

from ..model.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedWorkCompletion:
    """Names exactly the batches that a claim still owns."""

    session_id: str
    claim_id: str
    lease_token: str
    batch_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnInputCompletion:
    """Names exactly the inputs that a claim still owns."""

    session_id: str
    claim_id: str
    lease_token: str
    input_ids: tuple[str, ...]
