"""What a store raises.

    StoreError
    ├── SessionBindingMismatch          the store belongs to another session
    ├── UnsupportedReadScope            this backend cannot serve that scope
    ├── HeadRevisionConflict            another writer committed first
    ├── RuntimeTurnCommitConflict       the turn was committed with other content
    ├── TurnContentConflict             the turn id was submitted with other content
    ├── TurnCancelRequested             the turn is to be cancelled, so it cannot complete
    ├── QueuedWorkClaimExpired          the claim no longer owns its batches
    ├── TurnInputClaimExpired           the claim no longer owns its inputs
    ├── PendingTurnInputSourceKeyConflict
    ├── SessionExecutionLeaseExpired    no live lease backs this call
    ├── StoredSessionDeleted            the session that this store was opened for is deleted
    ├── InvalidPageCursor               a listing cannot go on from there
    ├── RecordSchemaVersionError
    │   ├── UnsupportedRecordSchemaVersion  a stored record of another release
    │   ├── MissingRecordSchemaVersion      one that carries no version
    │   └── InvalidRecordSchemaVersion      one that carries something else for a version
    ├── StoreSchemaUnsupported          a database of another release
    ├── StoreContended                  busy for too long; safe to repeat
    ├── StoreWrongLoop                  used from another event loop
    ├── StoreForked                     used after fork()
    └── StoreBackendError               everything else

Match on `code`, which is stable; never on the text.
"""

from typing import ClassVar

from ..model.cancelling import CancelRequest


class StoreError(Exception):
    """Base of what a store raises."""

    code: ClassVar[str] = "backend"


class SessionBindingMismatch(StoreError):
    """A commit names another session than the one this store belongs to."""

    code = "session_binding_mismatch"

    def __init__(self, *, bound_session_id: str, attempted_session_id: str) -> None:
        super().__init__(
            f"this store belongs to session {bound_session_id!r} and cannot take a commit of "
            f"{attempted_session_id!r}: open a store for that session"
        )
        self.bound_session_id = bound_session_id
        self.attempted_session_id = attempted_session_id


class UnsupportedReadScope(StoreError):
    """The backend cannot serve the scope that was asked for."""

    code = "unsupported_read_scope"

    def __init__(self, *, scope: object) -> None:
        super().__init__(f"this store cannot read {scope!r}")
        self.scope = scope


class HeadRevisionConflict(StoreError):
    """Another writer committed first and nothing of ours was written."""

    code = "head_revision_conflict"

    def __init__(self, *, expected: int | None, actual: int) -> None:
        super().__init__(f"head is at revision {actual}, expected {expected}: reload, then retry")
        self.expected = expected
        self.actual = actual


class RuntimeTurnCommitConflict(StoreError):
    """This turn is already committed, with other content."""

    code = "runtime_turn_commit_conflict"

    def __init__(self, *, session_id: str, turn_id: str) -> None:
        super().__init__(
            f"turn {turn_id!r} of session {session_id!r} is already committed with other content"
        )
        self.session_id = session_id
        self.turn_id = turn_id


class TurnContentConflict(StoreError):
    """A turn id was submitted again with another input or other options."""

    code = "turn_content_conflict"

    def __init__(self, *, session_id: str, turn_id: str) -> None:
        super().__init__(
            f"turn {turn_id!r} of session {session_id!r} was accepted with other content: "
            "use a new turn id, or submit exactly what was submitted before"
        )
        self.session_id = session_id
        self.turn_id = turn_id


class TurnCancelRequested(StoreError):
    """Somebody has asked for the turn to be cancelled, so it was not settled as completed.
    Nothing was written."""

    code = "turn_cancel_requested"

    def __init__(self, *, session_id: str, turn_id: str, request: CancelRequest) -> None:
        super().__init__(
            f"turn {turn_id!r} of session {session_id!r} is to be cancelled: "
            "settle it as cancelled, with what it has finished"
        )
        self.session_id = session_id
        self.turn_id = turn_id
        self.request = request


class QueuedWorkClaimExpired(StoreError):
    """The claim no longer owns every batch it names."""

    code = "queued_work_claim_expired"

    def __init__(self, *, session_id: str, claim_id: str) -> None:
        super().__init__(f"claim {claim_id!r} on queued work of session {session_id!r} is over")
        self.session_id = session_id
        self.claim_id = claim_id


class TurnInputClaimExpired(StoreError):
    """The claim no longer owns every input it names."""

    code = "turn_input_claim_expired"

    def __init__(self, *, session_id: str, claim_id: str) -> None:
        super().__init__(f"claim {claim_id!r} on inputs of session {session_id!r} is over")
        self.session_id = session_id
        self.claim_id = claim_id


class PendingTurnInputSourceKeyConflict(StoreError):
    """The source key is bound to different content."""

    code = "pending_turn_input_source_key_conflict"

    def __init__(self, *, session_id: str, source_key: str, existing_input_id: str) -> None:
        super().__init__(
            f"source key {source_key!r} of session {session_id!r} already names input "
            f"{existing_input_id!r} with other content: use a new key for an edited input"
        )
        self.session_id = session_id
        self.source_key = source_key
        self.existing_input_id = existing_input_id


class SessionExecutionLeaseExpired(StoreError):
    """The call was not backed by the live lease of its session."""

    code = "session_execution_lease_expired"

    def __init__(self, *, session_id: str) -> None:
        super().__init__(
            f"the execution lease of session {session_id!r} is not held: it lapsed, was released "
            "or was taken over; reload the session and try again"
        )
        self.session_id = session_id


class StoredSessionDeleted(StoreError):
    """The session was deleted after this store was opened; its id may be in use again."""

    code = "session_deleted"

    def __init__(self, *, session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} was deleted and nothing of it is stored any more: "
            "opening that id starts an empty session"
        )
        self.session_id = session_id


class InvalidPageCursor(StoreError):
    """The cursor of a listing is not one that this listing has given."""

    code = "invalid_page_cursor"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"the listing cannot go on from this cursor: {reason}")


class RecordSchemaVersionError(StoreError):
    """Base of what a stored record is refused with that is not of the version asked for."""

    def __init__(self, message: str, *, record_kind: str, expected: int) -> None:
        super().__init__(f"stored {record_kind} {message}; this release reads {expected}")
        self.record_kind = record_kind
        self.expected = expected


class UnsupportedRecordSchemaVersion(RecordSchemaVersionError):
    """The record was written by another release."""

    code = "unsupported_record_schema_version"

    def __init__(self, *, record_kind: str, actual: int, expected: int) -> None:
        super().__init__(f"has schema version {actual}", record_kind=record_kind, expected=expected)
        self.actual = actual


class MissingRecordSchemaVersion(RecordSchemaVersionError):
    """The record says of no version that it is of it."""

    code = "missing_record_schema_version"

    def __init__(self, *, record_kind: str, expected: int) -> None:
        super().__init__("has no schema version", record_kind=record_kind, expected=expected)


class InvalidRecordSchemaVersion(RecordSchemaVersionError):
    """What the record has for a version is none. `actual` is its JSON."""

    code = "invalid_record_schema_version"

    def __init__(self, *, record_kind: str, actual: str, expected: int) -> None:
        super().__init__(
            f"has {actual} for a schema version", record_kind=record_kind, expected=expected
        )
        self.actual = actual


class StoreSchemaUnsupported(StoreError):
    """The database was written by another release, or is not ours."""

    code = "store_schema_unsupported"

    def __init__(self, *, database: str, found: int, supported: int, hint: str) -> None:
        super().__init__(
            f"{database} has schema version {found}; this release supports {supported}: {hint}"
        )
        self.database = database
        self.found = found
        self.supported = supported


class StoreContended(StoreError):
    """The store was busy for longer than it may wait. Nothing was written; repeating is safe."""

    code = "contended"

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}; nothing was written and the call may be repeated")


class StoreWrongLoop(StoreError):
    """The storage belongs to another event loop."""

    code = "storage_wrong_loop"

    def __init__(self) -> None:
        super().__init__(
            "this storage was opened on another event loop: open one storage for each loop"
        )


class StoreForked(StoreError):
    """The storage was opened before this process was forked."""

    code = "storage_forked"

    def __init__(self) -> None:
        super().__init__(
            "this storage was opened before fork(): open a new storage in the child process"
        )


class StoreBackendError(StoreError):
    """Everything else: driver errors, rows that cannot be decoded, a closed store."""

    code = "backend"
