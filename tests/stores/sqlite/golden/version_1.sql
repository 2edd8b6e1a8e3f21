PRAGMA page_size = 4096;
PRAGMA auto_vacuum = 2;
PRAGMA application_id = 1281454952;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE artifact_blobs (
        hash    TEXT PRIMARY KEY NOT NULL,
        codec   TEXT NOT NULL,
        content BLOB NOT NULL
    );
INSERT INTO "artifact_blobs" VALUES('56260627c389c4ee00e87f6f2201955e79ec66c39b7002217f1ccc1d0d46a54f','none',X'7B22706C7567696E5F6F7074696F6E73223A207B7D7D');
INSERT INTO "artifact_blobs" VALUES('791b50158c652957cf3aad966b7700de1833f8ee36f507be13e528979bb457b9','zlib',X'789CEDC5310D00300800302BF3C6B584045EDCA30007EDD3AEFC31AF25499224499224499224DD2D6D888017');
CREATE TABLE artifact_refs (
        namespace    TEXT NOT NULL,
        artifact_ref TEXT NOT NULL,
        blob_ref     TEXT NOT NULL,
        PRIMARY KEY (namespace, artifact_ref)
    );
INSERT INTO "artifact_refs" VALUES('process_execution_env','env:small','56260627c389c4ee00e87f6f2201955e79ec66c39b7002217f1ccc1d0d46a54f');
INSERT INTO "artifact_refs" VALUES('process_execution_env','env:again','56260627c389c4ee00e87f6f2201955e79ec66c39b7002217f1ccc1d0d46a54f');
INSERT INTO "artifact_refs" VALUES('process_execution_env','env:large','791b50158c652957cf3aad966b7700de1833f8ee36f507be13e528979bb457b9');
CREATE TABLE attachment_manifest (
        session_id      TEXT NOT NULL,
        attachment_id   TEXT NOT NULL,
        canonical_uri   TEXT NOT NULL,
        intent_at_ms    INTEGER NOT NULL,
        committed_at_ms INTEGER,
        PRIMARY KEY (session_id, attachment_id)
    );
INSERT INTO "attachment_manifest" VALUES('branches','61578ad7d8afde50f365251304f0c5e711cfb3f18d4fc2f620f1969bac827f2f','sha256:61578ad7d8afde50f365251304f0c5e711cfb3f18d4fc2f620f1969bac827f2f',1750000000000,1750000000000);
INSERT INTO "attachment_manifest" VALUES('branches','0000000000000000000000000000000000000000000000000000000000000000','sha256:0000000000000000000000000000000000000000000000000000000000000000',1750000000000,NULL);
CREATE TABLE attachments (
        attachment_id TEXT PRIMARY KEY NOT NULL,
        meta_json     TEXT NOT NULL,
        stored_at_ms  INTEGER NOT NULL,
        retired_by    TEXT,
        content       BLOB NOT NULL
    );
INSERT INTO "attachments" VALUES('61578ad7d8afde50f365251304f0c5e711cfb3f18d4fc2f620f1969bac827f2f','{"media_type":{"kind":"image","type":"png"},"label":"a picture","id":"61578ad7d8afde50f365251304f0c5e711cfb3f18d4fc2f620f1969bac827f2f","byte_len":12}',1750000000000,NULL,X'89504E472070696374757265');
CREATE TABLE await_event_meta (
        singleton      INTEGER PRIMARY KEY CHECK (singleton = 1),
        signing_secret BLOB NOT NULL
    );
INSERT INTO "await_event_meta" VALUES(1,X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F');
CREATE TABLE await_event_revoked_sessions (
        session_id    TEXT PRIMARY KEY NOT NULL,
        generation    INTEGER NOT NULL,
        revoked_at_ms INTEGER NOT NULL
    );
INSERT INTO "await_event_revoked_sessions" VALUES('revoked',1,1750000000000);
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
    );
INSERT INTO "await_event_waits" VALUES('4d27c0bc5bc6dc96104a2574cdb8cbbca9076c9f1991df90b185ff1024efbe82','{"type":"turn","session_id":"waiting","turn_id":"settled"}','{"type":"custom","key":"answered"}','waiting',1,'settled',1750000000000,NULL,1750000000000,'{"status":"ok","payload":{"paid":["a",1,null]}}');
INSERT INTO "await_event_waits" VALUES('870ff5bb34fc6802e857b790f163c9b35057d79bb17659360e108ddd71867d1b','{"type":"runtime_operation","operation_id":"order-17"}','{"type":"custom","key":"answered"}',NULL,NULL,NULL,1750000000000,NULL,1750000000000,'{"status":"ok","payload":{"paid":["a",1,null]}}');
INSERT INTO "await_event_waits" VALUES('72485f41b91a57b5c3d9b4c725176959300d221acf342ca9610ccb0a4e5cc22c','{"type":"turn","session_id":"waiting","turn_id":"settled"}','{"type":"custom","key":"open"}','waiting',1,'settled',1750000000000,1800000000000,NULL,NULL);
CREATE TABLE blobs (
        session_id TEXT NOT NULL,
        hash       TEXT NOT NULL,
        kind       TEXT NOT NULL,
        codec      TEXT NOT NULL,
        content    BLOB NOT NULL,
        PRIMARY KEY (session_id, hash)
    );
INSERT INTO "blobs" VALUES('branches','8320c7607f2b306cf9ca057fbbdf227e88038a4c1ce626ada8e783157acae8d0','plugin_snapshot','none',X'7B22706C7567696E73223A7B226E6F746573223A7B226B657074223A5B312C6E756C6C2C2274776F225D7D7D7D');
INSERT INTO "blobs" VALUES('branches','471fd1275d209b0af98e7f86935a55dcb9a3e270480cfcc7f5bd989a9ab6777d','execution_state','zlib',X'789CEDC5411100000400305154F39080FE278106DB67315BDB1992244992244992244992FE0EA6B3CE61');
CREATE TABLE checkpoints (
        session_id     TEXT PRIMARY KEY NOT NULL,
        checkpoint_ref TEXT NOT NULL,
        manifest_json  TEXT NOT NULL
    );
INSERT INTO "checkpoints" VALUES('weather','59386848f2f753ee4757380f793eff6e5c627d8758e85537830a7713ec1638db','{"schema_version":1,"turn_state":{"token_usage":{"cache_read_input_tokens":0,"cache_write_input_tokens":0,"input_tokens":0,"output_tokens":0,"reasoning_output_tokens":0},"turn_index":2}}');
INSERT INTO "checkpoints" VALUES('branches','87baab9b57abc440e094fe10fdce12b1e6146b49fccd48c65f92ae7fe91a5ee6','{"execution_state_ref":"471fd1275d209b0af98e7f86935a55dcb9a3e270480cfcc7f5bd989a9ab6777d","plugin_snapshot_ref":"8320c7607f2b306cf9ca057fbbdf227e88038a4c1ce626ada8e783157acae8d0","schema_version":1,"turn_state":{"token_usage":{"cache_read_input_tokens":0,"cache_write_input_tokens":0,"input_tokens":0,"output_tokens":0,"reasoning_output_tokens":0},"turn_index":0}}');
INSERT INTO "checkpoints" VALUES('waiting','7ad1bbedc6cadf066672d168165d91d346f0973094ba5c2f89b6d31605778d5f','{"schema_version":1,"turn_state":{"token_usage":{"cache_read_input_tokens":0,"cache_write_input_tokens":0,"input_tokens":0,"output_tokens":0,"reasoning_output_tokens":0},"turn_index":0}}');
CREATE TABLE graph_nodes (
        seq            INTEGER PRIMARY KEY,
        session_id     TEXT NOT NULL,
        node_id        TEXT NOT NULL,
        parent_node_id TEXT,
        tombstoned     INTEGER NOT NULL DEFAULT 0,
        node_json      TEXT NOT NULL,
        UNIQUE (session_id, node_id)
    );
INSERT INTO "graph_nodes" VALUES(1,'weather','m:first:user',NULL,0,'{"node_id":"m:first:user","agent_frame_id":"weather:frame:initial","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m:first:user","role":"user","parts":[{"id":"m:first:user.p0","kind":"text","content":"What should I wear in Oslo?"}]}}}');
INSERT INTO "graph_nodes" VALUES(2,'weather','m:first:0:assistant','m:first:user',0,'{"node_id":"m:first:0:assistant","parent_node_id":"m:first:user","agent_frame_id":"weather:frame:initial","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m:first:0:assistant","role":"assistant","parts":[{"id":"m:first:0:assistant.p0","kind":"tool_call","content":"{\"city\": \"Oslo\"}","tool_call_id":"call-1","tool_name":"temperature"}]}}}');
INSERT INTO "graph_nodes" VALUES(3,'weather','m:first:0:tools','m:first:0:assistant',0,'{"node_id":"m:first:0:tools","parent_node_id":"m:first:0:assistant","agent_frame_id":"weather:frame:initial","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m:first:0:tools","role":"user","parts":[{"id":"m:first:0:tools.p0","kind":"tool_result","content":"4","tool_call_id":"call-1","tool_name":"temperature"}]}}}');
INSERT INTO "graph_nodes" VALUES(4,'weather','m:first:1:assistant','m:first:0:tools',0,'{"node_id":"m:first:1:assistant","parent_node_id":"m:first:0:tools","agent_frame_id":"weather:frame:initial","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m:first:1:assistant","role":"assistant","parts":[{"id":"m:first:1:assistant.p0","kind":"prose","content":"It is 4 degrees: take a coat ❄."}]}}}');
INSERT INTO "graph_nodes" VALUES(5,'weather','m:second:user','m:first:1:assistant',0,'{"node_id":"m:second:user","parent_node_id":"m:first:1:assistant","agent_frame_id":"weather:frame:initial","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m:second:user","role":"user","parts":[{"id":"m:second:user.p0","kind":"text","content":"And in the mountains?"}]}}}');
INSERT INTO "graph_nodes" VALUES(6,'weather','m:second:0:assistant','m:second:user',0,'{"node_id":"m:second:0:assistant","parent_node_id":"m:second:user","agent_frame_id":"weather:frame:initial","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m:second:0:assistant","role":"assistant","parts":[{"id":"m:second:0:assistant.p0","kind":"prose","content":"Boots as well."}]}}}');
INSERT INTO "graph_nodes" VALUES(7,'branches','a',NULL,0,'{"node_id":"a","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m-a","role":"user","parts":[{"id":"m-a.p0","kind":"text","content":"hello"}]}}}');
INSERT INTO "graph_nodes" VALUES(8,'branches','b','a',0,'{"node_id":"b","parent_node_id":"a","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m-b","role":"user","parts":[{"id":"m-b.p0","kind":"text","content":"hello"}]}}}');
INSERT INTO "graph_nodes" VALUES(9,'branches','c','b',0,'{"node_id":"c","parent_node_id":"b","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m-c","role":"user","parts":[{"id":"m-c.p0","kind":"text","content":"hello"}]}}}');
INSERT INTO "graph_nodes" VALUES(10,'branches','left','a',0,'{"node_id":"left","parent_node_id":"a","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m-left","role":"user","parts":[{"id":"m-left.p0","kind":"text","content":"hello"}]}}}');
INSERT INTO "graph_nodes" VALUES(11,'branches','hidden','a',1,'{"node_id":"hidden","parent_node_id":"a","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m-hidden","role":"user","parts":[{"id":"m-hidden.p0","kind":"text","content":"hello"}]}}}');
INSERT INTO "graph_nodes" VALUES(12,'waiting','n1',NULL,0,'{"node_id":"n1","timestamp":"2025-06-15T15:06:40.000Z","payload":{"type":"conversation","message":{"id":"m-n1","role":"user","parts":[{"id":"m-n1.p0","kind":"text","content":"hello"}]}}}');
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
    );
INSERT INTO "pending_turn_inputs" VALUES(1,'waiting','taken','key-taken','{"scope":"next_turn"}',NULL,NULL,'deferred_next_turn','{"items":[{"type":"text","text":"taken"}]}',1750000000000,'tic:1:1','eb1167b367a9c3787c65c1e582e2e662',1,'{"owner_id":"alice","incarnation_id":"1","liveness":{"kind":"opaque"}}',1750000030000,1);
INSERT INTO "pending_turn_inputs" VALUES(2,'waiting','waits','key-waits','{"scope":"next_turn"}',NULL,NULL,'deferred_next_turn','{"items":[{"type":"text","text":"waits"}]}',1750000000000,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "pending_turn_inputs" VALUES(3,'waiting','cancelled','key-cancelled','{"scope":"next_turn"}',NULL,NULL,'cancelled','{"items":[{"type":"text","text":"cancelled"}]}',1750000000000,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "pending_turn_inputs" VALUES(4,'waiting','steers',NULL,'{"scope":"active_turn","turn_id":"some turn","min_boundary":"after_work"}','some turn','after_work','pending_active','{"items":[{"type":"text","text":"steers"}]}',1750000000000,NULL,NULL,NULL,NULL,NULL,0);
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
    );
INSERT INTO "queued_work_batches" VALUES(1,'waiting','qwb:f7c1bd874da5e709d4713d60c8a70639','exclusive','earliest_safe_boundary','exclusive','"never"',0,1750000000000,'[{"type":"process_wake","wake":{"wake_id":"w1","target_session_id":"s","target_scope_id":"root","process_id":"p","sequence":1,"event_type":"process.wake","dedupe_key":"p:1","input":{"text":"wake 1 🧭","none":null,"list":[1,2.5,true]},"created_at_ms":1}}]','qwc:1:1','1846d424c17c627923c6612f48268673',1,'{"owner_id":"alice","incarnation_id":"1","liveness":{"kind":"opaque"}}',1750000030000,1);
INSERT INTO "queued_work_batches" VALUES(2,'waiting','qwb:e443df789558867f5ba91faf7a024204',NULL,'earliest_safe_boundary','join','"never"',0,1750000000000,'[{"type":"process_wake","wake":{"wake_id":"w1","target_session_id":"s","target_scope_id":"root","process_id":"p","sequence":1,"event_type":"process.wake","dedupe_key":"p:1","input":{"text":"wake 1 🧭","none":null,"list":[1,2.5,true]},"created_at_ms":1}}]',NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "queued_work_batches" VALUES(3,'waiting','qwb:23a7711a8133287637ebdcd9e87a1613',NULL,'after_current_turn_commit','exclusive','"never"',0,1750000000000,'[{"type":"session_command","command":{"kind":"refresh_tool_catalog","reason":"asked"}}]',NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE session_execution_leases (
        session_id           TEXT PRIMARY KEY NOT NULL,
        owner_id             TEXT NOT NULL,
        owner_incarnation_id TEXT NOT NULL,
        owner_liveness_json  TEXT NOT NULL,
        lease_token          TEXT,
        fencing_token        INTEGER NOT NULL,
        claimed_at_ms        INTEGER NOT NULL,
        expires_at_ms        INTEGER NOT NULL
    );
INSERT INTO "session_execution_leases" VALUES('weather','somebody','1','{"kind":"opaque"}',NULL,2,1750000000000,1750000030000);
INSERT INTO "session_execution_leases" VALUES('branches','alice','1','{"kind":"opaque"}','e3e70682c2094cac629f6fbed82c07cd',1,1750000000000,1750000030000);
INSERT INTO "session_execution_leases" VALUES('waiting','alice','1','{"kind":"opaque"}','f728b4fa42485e3a0a5d2f346baa9455',1,1750000000000,1750000030000);
INSERT INTO "session_execution_leases" VALUES('unfinished','alice','1','{"kind":"opaque"}','259f4329e6f4590b9a164106cf6a659e',3,1750000000000,1750000030000);
INSERT INTO "session_execution_leases" VALUES('journaled','alice','1','{"kind":"opaque"}','12e0c8b2bad640fb19488dec4f65d4d9',1,1750000000000,1750000030000);
CREATE TABLE session_heads (
        session_id     TEXT PRIMARY KEY NOT NULL,
        head_revision  INTEGER NOT NULL,
        leaf_node_id   TEXT,
        checkpoint_ref TEXT,
        turn_index     INTEGER NOT NULL,
        head_json      TEXT NOT NULL
    );
INSERT INTO "session_heads" VALUES('weather',2,'m:second:0:assistant','59386848f2f753ee4757380f793eff6e5c627d8758e85537830a7713ec1638db',2,'{"schema_version":1,"session_id":"weather","config":{"provider_id":"scripted","model":{"id":"scripted-1","limits":{"context_window_tokens":128000}}},"agent_frames":[{"frame_id":"weather:frame:initial","session_id":"weather","status":"active","reason":"initial","created_at":"2025-06-15T15:06:40.000Z","assignment":{"policy":{"model":{"id":"scripted-1","limits":{"context_window_tokens":128000}},"provider_id":"scripted","session_id":"weather"},"plugin_source":"current_host_fresh"}}],"current_agent_frame_id":"weather:frame:initial"}');
INSERT INTO "session_heads" VALUES('branches',1,'c','87baab9b57abc440e094fe10fdce12b1e6146b49fccd48c65f92ae7fe91a5ee6',0,'{"schema_version":1,"session_id":"branches","config":{"provider_id":"","model":{"id":"","limits":{"context_window_tokens":1}}},"agent_frames":[]}');
INSERT INTO "session_heads" VALUES('waiting',1,'n1','7ad1bbedc6cadf066672d168165d91d346f0973094ba5c2f89b6d31605778d5f',0,'{"schema_version":1,"session_id":"waiting","config":{"provider_id":"","model":{"id":"","limits":{"context_window_tokens":1}}},"agent_frames":[]}');
CREATE TABLE session_meta (
        session_id TEXT PRIMARY KEY NOT NULL,
        meta_json  TEXT NOT NULL
    );
INSERT INTO "session_meta" VALUES('weather','{"session_id":"weather","session_name":"weather","created_at":"2025-06-15T15:06:40.000Z","model":"scripted-1","cwd":"/srv","relation":{"kind":"root"}}');
INSERT INTO "session_meta" VALUES('branches','{"session_id":"branches","session_name":"branches","created_at":"2025-06-15T15:06:40.000Z","model":"","cwd":"/srv","relation":{"kind":"root"}}');
INSERT INTO "session_meta" VALUES('waiting','{"session_id":"waiting","session_name":"waiting","created_at":"2025-06-15T15:06:40.000Z","model":"","cwd":"/srv","relation":{"kind":"root"}}');
INSERT INTO "session_meta" VALUES('unfinished','{"session_id":"unfinished","session_name":"unfinished","created_at":"2025-06-15T15:06:40.000Z","model":"","cwd":"/srv","relation":{"kind":"root"}}');
INSERT INTO "session_meta" VALUES('journaled','{"session_id":"journaled","session_name":"journaled","created_at":"2025-06-15T15:06:40.000Z","model":"","cwd":"/srv","relation":{"kind":"root"}}');
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
    );
INSERT INTO "sessions" VALUES('weather',1,1750000000000,1750000000000,6,2,'What should I wear in Oslo?','Boots as well.',NULL,NULL);
INSERT INTO "sessions" VALUES('branches',1,1750000000000,1750000000000,4,4,'hello','hello',NULL,NULL);
INSERT INTO "sessions" VALUES('waiting',1,1750000000000,1750000000000,1,1,'hello','hello',NULL,NULL);
INSERT INTO "sessions" VALUES('unfinished',1,1750000000000,1750000000000,0,0,'','',NULL,NULL);
INSERT INTO "sessions" VALUES('journaled',1,1750000000000,1750000000000,0,0,'','',NULL,NULL);
INSERT INTO "sessions" VALUES('gone',1,1750000000000,1750000000000,0,0,'','',1750000000000,1750000000000);
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
    );
INSERT INTO "turn_effects" VALUES(1,'journaled','open','journaled:open:1:0:tool_attempt:2','tool_attempt','9','temperature','{"tool":"0f0f"}',1,'{"done":null}',NULL);
INSERT INTO "turn_effects" VALUES(2,'journaled','open','journaled:open:1:0:sleep:2','sleep','9','5 ms','{"tool":"0f0f"}',1,NULL,1750000000005);
CREATE TABLE turn_stamps (
        session_id       TEXT NOT NULL,
        turn_id          TEXT NOT NULL,
        turn_commit_hash TEXT NOT NULL,
        head_revision    INTEGER NOT NULL,
        checkpoint_ref   TEXT NOT NULL,
        manifest_json    TEXT NOT NULL,
        committed_at_ms  INTEGER NOT NULL,
        PRIMARY KEY (session_id, turn_id)
    );
INSERT INTO "turn_stamps" VALUES('weather','first','a2dd464f504f20fc93203a772bf6cffed271cc413380a2fc390708ae6defd54f',1,'4dc9dfcaf40c83082682fb2bcdf1b7c6d580347fa1aaf823d5462e029612e6dc','{"schema_version":1,"turn_state":{"token_usage":{"cache_read_input_tokens":0,"cache_write_input_tokens":0,"input_tokens":0,"output_tokens":0,"reasoning_output_tokens":0},"turn_index":1}}',1750000000000);
INSERT INTO "turn_stamps" VALUES('weather','second','6126f3694db9df7fd3c10d01f4afffde2bb5bbfdf61749bbf2b3ee81b0ed64b8',2,'59386848f2f753ee4757380f793eff6e5c627d8758e85537830a7713ec1638db','{"schema_version":1,"turn_state":{"token_usage":{"cache_read_input_tokens":0,"cache_write_input_tokens":0,"input_tokens":0,"output_tokens":0,"reasoning_output_tokens":0},"turn_index":2}}',1750000000000);
INSERT INTO "turn_stamps" VALUES('waiting','settled','b32a2bd4df0aed7e435a79c9ebbaa1a15f4d63c50208cd5b7b5ad8dbddd667ad',1,'7ad1bbedc6cadf066672d168165d91d346f0973094ba5c2f89b6d31605778d5f','{"schema_version":1,"turn_state":{"token_usage":{"cache_read_input_tokens":0,"cache_write_input_tokens":0,"input_tokens":0,"output_tokens":0,"reasoning_output_tokens":0},"turn_index":0}}',1750000000000);
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
    );
INSERT INTO "turns" VALUES('weather',1,'first',1,'committed','0ff8689f44e3cd3549d075998f1af015f491d9ee24c4c3927da015cce4b62d3f',1,NULL,'{}','{"protocol":"standard_protocol","provider_id":"scripted","tool_names":["temperature"]}','["first"]',NULL,NULL,1,1,1,0,0,1750000000000,1750000000000,'{"outcome":{"kind":"finished","end":{"type":"assistant_message","text":""}},"assistant_message_id":"m:first:1:assistant","message_ids":["m:first:user","m:first:0:assistant","m:first:0:tools","m:first:1:assistant"],"usage":{"input_tokens":0,"output_tokens":0,"cache_read_input_tokens":0,"cache_write_input_tokens":0,"reasoning_output_tokens":0},"calls":[{"call_id":"call-1","status":"success"}],"execution":{"had_tool_calls":true,"had_code_execution":false,"started_at_ms":1750000000000,"duration_ms":0}}',NULL,'[{"kind":"llm_call","subject":"scripted-1","key":"0:llm_call:2"},{"kind":"tool_attempt","subject":"temperature","key":"0:tool_batch:3:child:0:call-1:attempt:1"},{"kind":"llm_call","subject":"scripted-1","key":"1:llm_call:6"}]',NULL);
INSERT INTO "turns" VALUES('weather',1,'second',2,'committed','c39d0ad8f03a986c1e57fdc6d320855200ee581edd3ab04d0ae9c5854ef3c509',2,1,'{}','{"protocol":"standard_protocol","provider_id":"scripted","tool_names":["temperature"]}','["second"]',NULL,NULL,2,1,1,0,0,1750000000000,1750000000000,'{"outcome":{"kind":"finished","end":{"type":"assistant_message","text":""}},"assistant_message_id":"m:second:0:assistant","message_ids":["m:second:user","m:second:0:assistant"],"usage":{"input_tokens":0,"output_tokens":0,"cache_read_input_tokens":0,"cache_write_input_tokens":0,"reasoning_output_tokens":0},"execution":{"had_tool_calls":false,"had_code_execution":false,"started_at_ms":1750000000000,"duration_ms":0}}',NULL,NULL,NULL);
INSERT INTO "turns" VALUES('waiting',1,'settled',1,'committed','c2c8be1f0e355a476636890de57c1de5622bafce796b88c594571acaa8cf293e',1,NULL,'{}','{"protocol":"standard_protocol","provider_id":"scripted"}','["settled"]',NULL,NULL,1,0,1,0,0,1750000000000,1750000000000,'{"outcome":{"kind":"finished","end":{"type":"assistant_message","text":"fine"}},"message_ids":["m-n1"],"usage":{"input_tokens":0,"output_tokens":0,"cache_read_input_tokens":0,"cache_write_input_tokens":0,"reasoning_output_tokens":0},"execution":{"had_tool_calls":false,"had_code_execution":false,"started_at_ms":0,"duration_ms":0}}',NULL,NULL,NULL);
INSERT INTO "turns" VALUES('unfinished',1,'failed',1,'failed','c2c8be1f0e355a476636890de57c1de5622bafce796b88c594571acaa8cf293e',1,NULL,'{}','{"protocol":"standard_protocol","provider_id":"scripted"}','["failed"]',NULL,NULL,1,0,1,0,0,1750000000000,1750000000000,NULL,'{"code":"llm_provider","message":"the model is gone"}',NULL,NULL);
INSERT INTO "turns" VALUES('unfinished',1,'cancelled',2,'committed','c2c8be1f0e355a476636890de57c1de5622bafce796b88c594571acaa8cf293e',1,NULL,'{}','{"protocol":"standard_protocol","provider_id":"scripted"}','["cancelled"]',NULL,NULL,2,0,1,0,0,1750000000000,1750000000000,'{"outcome":{"kind":"stopped","reason":"cancelled"},"message_ids":["m-n1"],"usage":{"input_tokens":0,"output_tokens":0,"cache_read_input_tokens":0,"cache_write_input_tokens":0,"reasoning_output_tokens":0},"execution":{"had_tool_calls":false,"had_code_execution":false,"started_at_ms":0,"duration_ms":0}}',NULL,NULL,'{"requested_at_ms":1750000000000,"reason":"too slow","origin":"an operator"}');
INSERT INTO "turns" VALUES('unfinished',1,'open',3,'running','f14d325f90ac26442f05874282e7ce3824d8edb08a7fee708e12fb78cf74a3f7',1,NULL,'{}','{"protocol":"standard_protocol","provider_id":"scripted"}','["open"]','{"items":[{"type":"text","text":"Still there?"}]}',NULL,3,0,1,0,0,1750000000000,NULL,NULL,NULL,NULL,'{"requested_at_ms":1750000000000}');
INSERT INTO "turns" VALUES('journaled',1,'open',1,'running','2c531c29b8641bd8aef1cef30bfb219883683de46b909ddf055ca6ab60414c75',1,NULL,'{}','{"protocol":"standard_protocol","provider_id":"scripted"}','["open"]','{"items":[{"type":"text","text":"And here?"}]}','{"model":{"id":"","limits":{"context_window_tokens":1}},"provider_id":"scripted"}',1,1,1,0,0,1750000000000,NULL,NULL,NULL,NULL,NULL);
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
    );
INSERT INTO "usage_totals" VALUES('branches','turn','m1',7,0,0,0,0);
INSERT INTO "usage_totals" VALUES('branches','child','m2',11,0,0,0,0);
CREATE INDEX sessions_by_last_use
        ON sessions (updated_at_ms, session_id) WHERE deleted_at_ms IS NULL
    ;
CREATE INDEX sessions_by_creation
        ON sessions (created_at_ms, session_id) WHERE deleted_at_ms IS NULL
    ;
CREATE INDEX sessions_unswept
        ON sessions (session_id) WHERE deleted_at_ms IS NOT NULL AND swept_at_ms IS NULL
    ;
CREATE INDEX turns_unfinished ON turns (session_id, seq) WHERE settled_at_ms IS NULL
    ;
CREATE INDEX pending_turn_inputs_waiting
        ON pending_turn_inputs (session_id, state, enqueue_seq)
    ;
CREATE INDEX pending_turn_inputs_claimed
        ON pending_turn_inputs (session_id, claim_id) WHERE claim_id IS NOT NULL
    ;
CREATE INDEX queued_work_in_order ON queued_work_batches (session_id, enqueue_seq)
    ;
CREATE INDEX queued_work_claimed
        ON queued_work_batches (session_id, claim_id) WHERE claim_id IS NOT NULL
    ;
CREATE INDEX attachment_manifest_uncommitted
        ON attachment_manifest (session_id, intent_at_ms) WHERE committed_at_ms IS NULL
    ;
CREATE INDEX attachment_manifest_by_attachment ON attachment_manifest (attachment_id)
    ;
CREATE INDEX artifact_refs_by_blob ON artifact_refs (blob_ref)
    ;
CREATE INDEX await_event_waits_by_session
        ON await_event_waits (session_id, turn_id) WHERE session_id IS NOT NULL
    ;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('pending_turn_inputs',4);
INSERT INTO "sqlite_sequence" VALUES('queued_work_batches',3);
COMMIT;
