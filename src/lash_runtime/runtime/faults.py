"""What the runtime raises when a turn cannot run or be committed.

The facade turns a fault into its own error with the same code. The two vocabularies of store
and runtime meet here and nowhere else.
"""

from ..ports.store_errors import (
    RuntimeTurnCommitConflict,
    SessionBindingMismatch,
    SessionExecutionLeaseExpired,
    StoreBackendError,
    StoreContended,
    StoredSessionDeleted,
    StoreError,
    StoreForked,
    StoreSchemaUnsupported,
    StoreWrongLoop,
    TurnContentConflict,
)


class RuntimeFault(Exception):
    """A failure with a stable `code`. `outcome_unknown` says that a commit may have happened, and
    `undecided` that the store was asked in vain, which says nothing about what was asked."""

    def __init__(
        self, code: str, message: str, *, outcome_unknown: bool = False, undecided: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.outcome_unknown = outcome_unknown
        self.undecided = undecided


class SessionBusy(RuntimeFault):
    """Another owner holds the session's lane; no work was started."""

    def __init__(self, *, session_id: str, holder: str, turn_id: str | None = None) -> None:
        running = f" for turn {turn_id!r}" if turn_id else ""
        super().__init__(
            "session_execution_busy",
            f"session {session_id!r} is held by owner {holder!r}{running}: "
            "nothing was started; try again when it is done",
        )


class TurnRunsElsewhere(RuntimeFault):
    """Another owner has accepted this very turn and has not finished it; nothing was started."""

    def __init__(self, *, session_id: str, turn_id: str) -> None:
        super().__init__(
            "session_execution_busy",
            f"turn {turn_id!r} of session {session_id!r} was accepted by another owner",
        )


class SessionIsClosed(RuntimeFault):
    """The session was closed or parked, by whichever handle."""

    def __init__(self, session_id: str) -> None:
        super().__init__("session_closed", f"session {session_id!r} was closed or parked")
        self.session_id = session_id


class SessionIsDeleted(RuntimeFault):
    """The session was deleted, by whomever; nothing of it is stored any more."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            "session_deleted",
            f"session {session_id!r} was deleted: opening that id starts an empty session",
        )
        self.session_id = session_id


class SessionInUse(RuntimeFault):
    """Other handles or turns still use the session; nothing was changed."""

    def __init__(self, session_id: str, *, handles: int, turns: int) -> None:
        super().__init__("session_still_in_use", f"session {session_id!r} is still in use")
        self.session_id, self.handles, self.turns = session_id, handles, turns


class SessionHasNoStore(RuntimeFault):
    """The operation needs a stored session and this one lives in memory."""

    def __init__(self, session_id: str, *, operation: str) -> None:
        super().__init__(
            "session_not_durable",
            f"session {session_id!r} has no store, so it cannot {operation}",
        )
        self.session_id, self.operation = session_id, operation


class StoreOfAnotherSession(RuntimeFault):
    """The store belongs to session `loaded`, and `requested` was to be kept in it."""

    def __init__(self, *, loaded: str, requested: str) -> None:
        super().__init__(
            "store_session_mismatch",
            f"the store belongs to session {loaded!r}, but session {requested!r} was asked for",
        )
        self.loaded, self.requested = loaded, requested


class WiringMissing(RuntimeFault):
    """A turn that is to be finished needs what this session does not have; it stays as it is."""

    def __init__(self, session_id: str, turn_id: str, missing: tuple[str, ...]) -> None:
        super().__init__(
            "turn_wiring_missing",
            f"session {session_id!r} has the unfinished turn {turn_id!r}, which this core cannot "
            f"finish without {', '.join(missing)}: use the session with a core that has them",
        )
        self.session_id, self.turn_id, self.missing = session_id, turn_id, missing


class LeaseLost(RuntimeFault):
    """The session's lease was taken over or lapsed; what was not committed is not ours."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            "session_execution_lease_lost",
            f"the execution lease of session {session_id!r} was lost before commit: "
            "its end was not stored and another owner may have gone on; a retry goes on from "
            "what it left",
        )


# Errors that say themselves what is wrong; the caller sees them under the store's own code.
_SELF_EXPLAINING = (
    TurnContentConflict,
    StoreContended,
    StoreForked,
    StoreSchemaUnsupported,
    StoreWrongLoop,
)


def fault_of_commit(error: StoreError, session_id: str) -> RuntimeFault:
    """The fault for a store error met while accepting, claiming or committing."""
    # A turn that is committed already, and not by itself, was closed by a later owner.
    if isinstance(error, SessionExecutionLeaseExpired | RuntimeTurnCommitConflict):
        return LeaseLost(session_id)
    if isinstance(error, StoredSessionDeleted):
        return SessionIsDeleted(session_id)
    if isinstance(error, SessionBindingMismatch):
        return StoreOfAnotherSession(loaded=error.bound_session_id, requested=session_id)
    if isinstance(error, _SELF_EXPLAINING):
        return _under_its_own_code(error, session_id)
    # The checks of a commit refuse it whole. Only where the database itself failed may the
    # write have happened all the same.
    return RuntimeFault(
        "store_commit_failed",
        f"session {session_id!r} could not be stored: {error}",
        outcome_unknown=isinstance(error, StoreBackendError),
    )


def fault_of_refresh(error: StoreError, session_id: str) -> RuntimeFault:
    """The fault for a store error met while reading a session."""
    if isinstance(error, StoredSessionDeleted):
        return SessionIsDeleted(session_id)
    if isinstance(error, _SELF_EXPLAINING):
        return _under_its_own_code(error, session_id)
    return RuntimeFault(
        "session_head_refresh",
        f"session {session_id!r} could not be read: {error}",
        undecided=True,
    )


def _under_its_own_code(error: StoreError, session_id: str) -> RuntimeFault:
    return RuntimeFault(
        error.code,
        f"session {session_id!r}: {error}",
        undecided=isinstance(error, StoreContended),
    )
