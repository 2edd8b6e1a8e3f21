"""Every exception that leaves the library's public face.

    EmbedError
    ├── wiring, terminal: fix the program, not the call
    │   ├── MissingProtocolPlugin, MissingModelSpec, MissingEffectHost
    │   ├── MissingAttachmentStore, MissingSessionStoreFactory
    │   ├── DurableStorePeerRequired
    │   ├── InvalidConfiguration
    │   └── InvalidSessionId
    ├── SessionError          a session could not be opened or may not run
    │   ├── StoreSessionMismatch
    │   ├── SessionClosed
    │   ├── SessionDeleted
    │   ├── SessionNotDurable
    │   └── SessionStillInUse
    ├── CoreClosed            the core was closed
    ├── InvalidAwaitEventKey  a text that is no key of a durable wait
    ├── StoreFailure          the storage failed; `code` is the store's own
    ├── AttachmentFailure     an image could not be stored or read; see its `code`
    └── RuntimeFailure        a turn could not run or be committed; see its `code`

Match on the class or on `code`, which never changes; never on the text. `is_retryable` says
that the same call may succeed later without any change; `is_terminal` says that it never will.
Problems of models, tools and inputs are not exceptions: they are outcomes of a turn.
"""

from typing import ClassVar

RETRYABLE_CODES = frozenset({"session_execution_busy", "session_execution_lease_lost", "contended"})
TERMINAL_CODES = frozenset(
    {
        "attachment_invalid",
        "attachment_not_found",
        "attachment_sweep_unsupported",
        "await_event_cancel_unsupported",
        "durable_effect_host_requires_handler_context",
        "durable_store_required:attachment_store",
        "durable_store_required:session_store",
        "execution_scope_turn_id_mismatch",
        "invalid_page_cursor",
        "invalid_turn_id",
        "llm_provider",
        "missing_execution_scope_id",
        "session_closed",
        "session_deleted",
        "session_not_durable",
        "store_schema_unsupported",
        "storage_forked",
        "storage_wrong_loop",
        "turn_content_conflict",
        "turn_not_available",
        "turn_of_replaced_history",
    }
)


class EmbedError(Exception):
    """Base of what the library raises."""

    code: str = "embed_error"

    @property
    def is_retryable(self) -> bool:
        """The same call may succeed later, unchanged."""
        return self.code in RETRYABLE_CODES

    @property
    def is_terminal(self) -> bool:
        """The same call cannot succeed, however often it is made."""
        return self.code in TERMINAL_CODES


class WiringError(EmbedError):
    """The program is put together wrongly; no retry helps."""

    message: ClassVar[str] = ""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)

    @property
    def is_terminal(self) -> bool:
        return True


class MissingProtocolPlugin(WiringError):
    """`LashCore.builder()` was not given a protocol."""

    code = "missing_protocol_plugin"
    message = (
        "a core needs a protocol: call .protocol(...), or start from LashCore.standard_builder()"
    )


class MissingModelSpec(WiringError):
    """No model was named."""

    code = "missing_model_spec"
    message = "a core needs a model: call .model('name', context_window=...)"


class MissingEffectHost(WiringError):
    """`LashCore.builder()` was given neither a storage nor an effect host."""

    code = "missing_effect_host"
    message = "a core needs an effect host: call .storage(...) or .effect_host(...)"


class MissingAttachmentStore(WiringError):
    """`LashCore.builder()` was given neither a storage nor an attachment store."""

    code = "missing_attachment_store"
    message = "a core needs an attachment store: call .storage(...) or .attachment_store(...)"


class MissingSessionStoreFactory(WiringError):
    """The operation needs stored sessions and the core has none."""

    code = "missing_session_store_factory"
    message = (
        "this core stores no sessions: call .storage(...) or .store_factory(...) on its builder"
    )


class DurableStorePeerRequired(WiringError):
    """A durable part was wired beside one that dies with the process."""

    code = "durable_store_peer_required"

    def __init__(self, *, facet: str) -> None:
        super().__init__(
            f"sessions are stored durably but the {facet} is in memory: wire a durable {facet}, "
            "or let .storage(...) provide all of them"
        )
        self.facet = facet


class InvalidSessionId(WiringError):
    """A session id that cannot be a key."""

    code = "invalid_session_id"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"invalid session id: {reason}")


class InvalidConfiguration(WiringError):
    """A setting with a value that cannot work."""

    code = "invalid_configuration"


class SessionError(EmbedError):
    """A session could not be opened, or may not be used like this."""

    code = "session"


class StoreSessionMismatch(SessionError):
    """The state or store belongs to another session."""

    code = "store_session_mismatch"

    def __init__(self, *, loaded: str, requested: str) -> None:
        super().__init__(
            f"this is of session {loaded!r}, but session {requested!r} was asked for: give each "
            "session a state and a store of its own"
        )
        self.loaded = loaded
        self.requested = requested

    @property
    def is_terminal(self) -> bool:
        return True


class SessionClosed(SessionError):
    """The handle was closed or parked; open or resume the session again."""

    code = "session_closed"

    def __init__(self, *, session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} was closed or parked on this handle: open or resume it again"
        )
        self.session_id = session_id


class SessionDeleted(SessionError):
    """The session was deleted, by whomever; opening its id starts an empty session."""

    code = "session_deleted"

    def __init__(self, *, session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} was deleted and nothing of it is stored any more: "
            "open that id again to start an empty session"
        )
        self.session_id = session_id


class SessionStillInUse(SessionError):
    """Somebody else still uses the session. Nothing was changed; the handle stays usable."""

    code = "session_still_in_use"

    def __init__(self, *, session_id: str, clones: int, turns: int) -> None:
        super().__init__(
            f"session {session_id!r} is still in use by {clones} other handle(s) and {turns} "
            "turn(s): close the clones and finish or cancel the turns first"
        )
        self.session_id = session_id
        self.clones = clones
        self.turns = turns


class SessionNotDurable(SessionError):
    """The operation needs a stored session and this one lives in memory."""

    code = "session_not_durable"

    def __init__(self, *, session_id: str, operation: str) -> None:
        super().__init__(
            f"session {session_id!r} has no store, so it cannot {operation}: "
            "give the core a storage"
        )
        self.session_id = session_id


class CoreClosed(EmbedError):
    """The core was closed; build another one."""

    code = "core_closed"

    def __init__(self) -> None:
        super().__init__("this core is closed: build and enter a new one")

    @property
    def is_terminal(self) -> bool:
        return True


class InvalidAwaitEventKey(EmbedError):
    """The text that came in place of a key is none. A web hook answers it as a bad request."""

    code = "invalid_await_event_key"

    def __init__(self) -> None:
        # Without the text: if it nearly is a key, it is nearly a secret.
        super().__init__(
            "this text is not the key of a durable wait: give the JSON of an AwaitEventKey, whole"
        )

    @property
    def is_terminal(self) -> bool:
        return True


class StoreFailure(EmbedError):
    """The storage could not do what was asked. `code` is the store error's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class AttachmentFailure(EmbedError):
    """An image could not be stored or read.

    `attachment_invalid`: the bytes cannot be carried. `attachment_not_found`: they are not
    stored. `attachment_sweep_unsupported`: the store or the sessions' storage cannot be swept.
    Any other code, such as `attachment_io` or `attachment_backend`, is what went wrong in the
    store.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RuntimeFailure(EmbedError):
    """A turn could not run, or its result could not be stored.

    Codes that call for different reactions: `session_execution_busy` (another owner runs this
    session; retry), `session_execution_lease_lost` (another owner took over; a retry goes on
    from what it left), `store_commit_failed` (the outcome is unknown until the session is read
    again), `session_head_refresh`, `llm_provider` (the session's provider is not wired),
    `turn_content_conflict` (the turn id was used for other content), `turn_interrupted` (the
    core was closed under the turn), `turn_detached` (this caller was cancelled, while another one
    runs the turn), `unknown_turn` (nothing to attach to under that id), `live_replay`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
