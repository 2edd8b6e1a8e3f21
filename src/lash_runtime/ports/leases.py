"""The session execution lease: who may write to a session, and until when.

A lease carries a fencing token that only ever rises; every write presents it. Owners are told
apart by owner id and incarnation id together, never by how alive they look.
"""

from typing import Annotated, Literal, Self

from pydantic import Field

from ..model._value import Value, omitted_when_none
from ..model.cancelling import CancelRequest
from ..model.records import dataclass


class OpaqueLiveness(Value):
    """Nothing can be proven about the holder: only its expiry frees the lease."""

    kind: Literal["opaque"] = "opaque"


class LocalProcessLiveness(Value):
    """The holder is a process on this host and boot, so its death can be proven."""

    kind: Literal["local_process"] = "local_process"
    host_id: str
    boot_id: str
    pid: int
    process_start: str
    pid_namespace: str | None = omitted_when_none()


LeaseOwnerLiveness = Annotated[OpaqueLiveness | LocalProcessLiveness, Field(discriminator="kind")]


class LeaseOwnerIdentity(Value):
    """Who holds or wants a lease."""

    owner_id: str
    incarnation_id: str
    liveness: LeaseOwnerLiveness = OpaqueLiveness.defaults()

    def same_incarnation(self, other: Self) -> bool:
        return self.owner_id == other.owner_id and self.incarnation_id == other.incarnation_id


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionExecutionLeaseFence:
    """The proof of ownership that a write presents."""

    session_id: str
    owner: LeaseOwnerIdentity
    lease_token: str
    fencing_token: int


SessionExecutionLeaseCompletion = SessionExecutionLeaseFence
"""The same proof, presented to give the lease back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionExecutionLease:
    """A held lane: who may write to `session_id`, and until when (epoch milliseconds)."""

    session_id: str
    owner: LeaseOwnerIdentity
    lease_token: str
    fencing_token: int
    claimed_at_epoch_ms: int
    expires_at_epoch_ms: int

    def fence(self) -> SessionExecutionLeaseFence:
        return SessionExecutionLeaseFence(
            session_id=self.session_id,
            owner=self.owner,
            lease_token=self.lease_token,
            fencing_token=self.fencing_token,
        )

    def lapsed(self, now_ms: int) -> bool:
        return self.expires_at_epoch_ms <= now_ms


@dataclass(frozen=True, slots=True)
class LeaseAcquired:
    lease: SessionExecutionLease


@dataclass(frozen=True, slots=True)
class LeaseBusy:
    """Another owner holds the lane."""

    holder: SessionExecutionLease


SessionExecutionLeaseClaimOutcome = LeaseAcquired | LeaseBusy


@dataclass(frozen=True, slots=True)
class LeaseRenewed:
    """The lease goes on. `cancel_request` is what was asked of the turn that runs under it."""

    lease: SessionExecutionLease
    cancel_request: CancelRequest | None = None


class LeaseTimingsError(ValueError):
    """Lease timings that could not protect a turn. `code` says which rule they break."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class LeaseTimings:
    """How long a lease lives and how often it is renewed, in milliseconds.

    The lifetime is at least three renewals, so that an owner survives two that fail.
    """

    ttl_ms: int = 30_000
    renew_interval_ms: int = 10_000

    def __post_init__(self) -> None:
        for name in ("ttl_ms", "renew_interval_ms"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise LeaseTimingsError(
                    "not_whole_milliseconds", f"{name} is a whole number, not {value!r}"
                )
        if self.ttl_ms < 1:
            raise LeaseTimingsError("ttl_too_small", f"lease ttl of {self.ttl_ms} ms is too small")
        if self.renew_interval_ms < 1:
            raise LeaseTimingsError(
                "renew_interval_too_small",
                f"renew interval of {self.renew_interval_ms} ms is too small",
            )
        if self.ttl_ms < 3 * self.renew_interval_ms:
            raise LeaseTimingsError(
                "ttl_renew_ratio_too_small",
                f"a lease of {self.ttl_ms} ms renewed every {self.renew_interval_ms} ms would not "
                "survive two missed renewals: make the ttl at least three intervals",
            )

    @classmethod
    def from_ttl(cls, ttl_ms: int) -> Self:
        return cls(ttl_ms, ttl_ms // 3)
