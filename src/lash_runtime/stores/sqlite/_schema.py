"""The tables of a new database.

Every table of a session has `session_id` in its key, so that one file holds all sessions. Rows
that may be large sit in tables with a rowid: a table without one pushes them into whole pages
of overflow.

Rule: once a release has written them, a change here comes with a migration that takes the
databases of that release to the same tables.
"""

from typing import Final

TABLES: Final = (
    """
    CREATE TABLE sessions (
        session_id         TEXT PRIMARY KEY NOT NULL,
        generation         INTEGER NOT NULL,
        created_at_ms      INTEGER NOT NULL,
        updated_at_ms      INTEGER NOT NULL,
        message_count      INTEGER NOT NULL DEFAULT 0,
        user_message_count INTEGER NOT NULL DEFAULT 0,
        first_user_message TEXT NOT NULL DEFAULT '',
        last_message       TEXT NOT NULL DEFAULT '',
        deleted_at_ms      INTEGER,
        swept_at_ms        INTEGER
    )""",
    """
    CREATE INDEX sessions_by_last_use
        ON sessions (updated_at_ms, session_id) WHERE deleted_at_ms IS NULL
    """,
    """
    CREATE INDEX sessions_by_creation
        ON sessions (created_at_ms, session_id) WHERE deleted_at_ms IS NULL
    """,
    """
    CREATE INDEX sessions_unswept
        ON sessions (session_id) WHERE deleted_at_ms IS NOT NULL AND swept_at_ms IS NULL
    """,
    """
    CREATE TABLE session_meta (
        session_id TEXT PRIMARY KEY NOT NULL,
        meta_json  TEXT NOT NULL
    )""",
    """
    CREATE TABLE session_heads (
        session_id     TEXT PRIMARY KEY NOT NULL,
        head_revision  INTEGER NOT NULL,
        leaf_node_id   TEXT,
        checkpoint_ref TEXT,
        turn_index     INTEGER NOT NULL,
        head_json      TEXT NOT NULL
    )""",
    """
    CREATE TABLE graph_nodes (
        seq            INTEGER PRIMARY KEY,
        session_id     TEXT NOT NULL,
        node_id        TEXT NOT NULL,
        parent_node_id TEXT,
        tombstoned     INTEGER NOT NULL DEFAULT 0,
        node_json      TEXT NOT NULL,
        UNIQUE (session_id, node_id)
    )""",
    """
    CREATE TABLE checkpoints (
        session_id     TEXT PRIMARY KEY NOT NULL,
        checkpoint_ref TEXT NOT NULL,
        manifest_json  TEXT NOT NULL
    )""",
    """
    CREATE TABLE blobs (
        session_id TEXT NOT NULL,
        hash       TEXT NOT NULL,
        kind       TEXT NOT NULL,
        codec      TEXT NOT NULL,
        content    BLOB NOT NULL,
        PRIMARY KEY (session_id, hash)
    )""",
    """
    CREATE TABLE usage_totals (
        session_id                TEXT NOT NULL,
        source                    TEXT NOT NULL,
        model                     TEXT NOT NULL,
        input_tokens              INTEGER NOT NULL,
        output_tokens             INTEGER NOT NULL,
        cache_read_input_tokens   INTEGER NOT NULL,
        cache_write_input_tokens  INTEGER NOT NULL,
        reasoning_output_tokens   INTEGER NOT NULL,
        PRIMARY KEY (session_id, source, model)
    )""",
    """
    CREATE TABLE turn_stamps (
        session_id       TEXT NOT NULL,
        turn_id          TEXT NOT NULL,
        turn_commit_hash TEXT NOT NULL,
        head_revision    INTEGER NOT NULL,
        checkpoint_ref   TEXT NOT NULL,
        manifest_json    TEXT NOT NULL,
        committed_at_ms  INTEGER NOT NULL,
        PRIMARY KEY (session_id, turn_id)
    )""",
    """
    CREATE TABLE session_execution_leases (
        session_id           TEXT PRIMARY KEY NOT NULL,
        owner_id             TEXT NOT NULL,
        owner_incarnation_id TEXT NOT NULL,
        owner_liveness_json  TEXT NOT NULL,
        lease_token          TEXT,
        fencing_token        INTEGER NOT NULL,
        claimed_at_ms        INTEGER NOT NULL,
        expires_at_ms        INTEGER NOT NULL
    )""",
    """
    CREATE TABLE turns (
        session_id           TEXT NOT NULL,
        generation           INTEGER NOT NULL,
        turn_id              TEXT NOT NULL,
        seq                  INTEGER NOT NULL,
        state                TEXT NOT NULL,
        content_hash         TEXT NOT NULL,
        turn_index           INTEGER NOT NULL,
        base_revision        INTEGER,
        options_json         TEXT NOT NULL,
        required_wiring_json TEXT NOT NULL,
        members_json         TEXT NOT NULL,
        input_json           TEXT,
        policy_json          TEXT,
        fencing_token        INTEGER NOT NULL,
        journaled            INTEGER NOT NULL DEFAULT 0,
        attempt              INTEGER NOT NULL DEFAULT 1,
        deaths               INTEGER NOT NULL DEFAULT 0,
        records              INTEGER NOT NULL DEFAULT 0,
        accepted_at_ms       INTEGER NOT NULL,
        settled_at_ms        INTEGER,
        result_json          TEXT,
        failure_json         TEXT,
        effects_json         TEXT,
        cancel_request_json  TEXT,
        PRIMARY KEY (session_id, turn_id),
        UNIQUE (session_id, seq)
    )""",
    """
    CREATE INDEX turns_unfinished ON turns (session_id, seq) WHERE settled_at_ms IS NULL
    """,
    """
    CREATE TABLE turn_effects (
        seq             INTEGER PRIMARY KEY,
        session_id      TEXT NOT NULL,
        turn_id         TEXT NOT NULL,
        replay_key      TEXT NOT NULL,
        kind            TEXT NOT NULL,
        position        TEXT NOT NULL,
        subject         TEXT NOT NULL,
        components_json TEXT NOT NULL,
        runs            INTEGER NOT NULL,
        outcome_json    TEXT,
        due_at_ms       INTEGER,
        UNIQUE (session_id, turn_id, replay_key)
    )""",
    """
    CREATE TABLE pending_turn_inputs (
        enqueue_seq                INTEGER PRIMARY KEY AUTOINCREMENT,
        session_id                 TEXT NOT NULL,
        input_id                   TEXT NOT NULL,
        source_key                 TEXT,
        submitted_ingress_json     TEXT NOT NULL,
        ingress_turn_id            TEXT,
        ingress_min_boundary       TEXT,
        state                      TEXT NOT NULL,
        input_json                 TEXT NOT NULL,
        enqueued_at_ms             INTEGER NOT NULL,
        claim_id                   TEXT,
        claim_token                TEXT,
        claim_generation           INTEGER,
        claim_owner_json           TEXT,
        claim_expires_at_ms        INTEGER,
        claim_fencing_token        INTEGER NOT NULL DEFAULT 0,
        UNIQUE (session_id, input_id),
        UNIQUE (session_id, source_key)
    )""",
    """
    CREATE INDEX pending_turn_inputs_waiting
        ON pending_turn_inputs (session_id, state, enqueue_seq)
    """,
    """
    CREATE INDEX pending_turn_inputs_claimed
        ON pending_turn_inputs (session_id, claim_id) WHERE claim_id IS NOT NULL
    """,
    """
    CREATE TABLE queued_work_batches (
        enqueue_seq         INTEGER PRIMARY KEY AUTOINCREMENT,
        session_id          TEXT NOT NULL,
        batch_id            TEXT NOT NULL,
        source_key          TEXT,
        delivery_policy     TEXT NOT NULL,
        slot_policy         TEXT NOT NULL,
        merge_key_json      TEXT NOT NULL,
        available_at_ms     INTEGER NOT NULL,
        enqueued_at_ms      INTEGER NOT NULL,
        payloads_json       TEXT NOT NULL,
        claim_id            TEXT,
        claim_token         TEXT,
        claim_generation    INTEGER,
        claim_owner_json    TEXT,
        claim_expires_at_ms INTEGER,
        claim_fencing_token INTEGER NOT NULL DEFAULT 0,
        UNIQUE (session_id, batch_id),
        UNIQUE (session_id, source_key)
    )""",
    """
    CREATE INDEX queued_work_in_order ON queued_work_batches (session_id, enqueue_seq)
    """,
    """
    CREATE INDEX queued_work_claimed
        ON queued_work_batches (session_id, claim_id) WHERE claim_id IS NOT NULL
    """,
    """
    CREATE TABLE attachments (
        attachment_id TEXT PRIMARY KEY NOT NULL,
        meta_json     TEXT NOT NULL,
        stored_at_ms  INTEGER NOT NULL,
        retired_by    TEXT,
        content       BLOB NOT NULL
    )""",
    """
    CREATE TABLE attachment_manifest (
        session_id      TEXT NOT NULL,
        attachment_id   TEXT NOT NULL,
        canonical_uri   TEXT NOT NULL,
        intent_at_ms    INTEGER NOT NULL,
        committed_at_ms INTEGER,
        PRIMARY KEY (session_id, attachment_id)
    )""",
    """
    CREATE INDEX attachment_manifest_uncommitted
        ON attachment_manifest (session_id, intent_at_ms) WHERE committed_at_ms IS NULL
    """,
    """
    CREATE INDEX attachment_manifest_by_attachment ON attachment_manifest (attachment_id)
    """,
    """
    CREATE TABLE artifact_blobs (
        hash    TEXT PRIMARY KEY NOT NULL,
        codec   TEXT NOT NULL,
        content BLOB NOT NULL
    )""",
    """
    CREATE TABLE artifact_refs (
        namespace    TEXT NOT NULL,
        artifact_ref TEXT NOT NULL,
        blob_ref     TEXT NOT NULL,
        PRIMARY KEY (namespace, artifact_ref)
    )""",
    """
    CREATE INDEX artifact_refs_by_blob ON artifact_refs (blob_ref)
    """,
    """
    CREATE TABLE await_event_meta (
        singleton      INTEGER PRIMARY KEY CHECK (singleton = 1),
        signing_secret BLOB NOT NULL
    )""",
    """
    CREATE TABLE await_event_waits (
        key_id         TEXT PRIMARY KEY NOT NULL,
        scope_json     TEXT NOT NULL,
        wait_json      TEXT NOT NULL,
        session_id     TEXT,
        generation     INTEGER,
        turn_id        TEXT,
        created_at_ms  INTEGER NOT NULL,
        deadline_ms    INTEGER,
        resolved_at_ms INTEGER,
        terminal_json  TEXT
    )""",
    """
    CREATE INDEX await_event_waits_by_session
        ON await_event_waits (session_id, turn_id) WHERE session_id IS NOT NULL
    """,
    """
    CREATE TABLE await_event_revoked_sessions (
        session_id    TEXT PRIMARY KEY NOT NULL,
        generation    INTEGER NOT NULL,
        revoked_at_ms INTEGER NOT NULL
    )""",
)
