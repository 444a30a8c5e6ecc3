-- The whole first schema. Read it as the rules of the house: what must never happen is a constraint here, not a habit in Python.
--
-- Three decisions shape it:
--   * Ids of events and runs are UUIDv7, made by the gateway before the first write, so a retry after an ambiguous commit is
--     idempotent. They sort by time, so a range of ids is a range of time: the tables that grow without end are partitioned by
--     id, a lookup by id touches one partition, and a purge drops a partition.
--   * `json` columns hold text from senders and authors and pass through unparsed; `jsonb` columns hold documents of our own.
--     (jsonb refuses \u0000 and inflates 1e131071 to 131,072 digits when it is read.)
--   * The hot tables (events, runs, changes, logs, block_runs) carry no foreign keys: a key-share lock per row on one busy
--     schedule costs more than the row. Their parents are never deleted while children exist; schedules are only marked.

CREATE TABLE pipelines (
    id text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$'),
    version text,
    file text NOT NULL,
    doc text NOT NULL DEFAULT '',
    graph jsonb,
    params_schema jsonb,
    max_active_runs integer CHECK (max_active_runs > 0),
    is_paused boolean NOT NULL DEFAULT false,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT a_pipeline_is_readable_or_says_why CHECK (graph IS NOT NULL OR error IS NOT NULL),
    CONSTRAINT a_graph_has_a_version CHECK ((graph IS NULL) = (version IS NULL))
);

-- What a run executed, for as long as runs are kept: pipelines only knows the newest.
CREATE TABLE pipeline_versions (
    pipeline_id text NOT NULL REFERENCES pipelines ON DELETE CASCADE,
    version text NOT NULL,
    graph jsonb NOT NULL,
    params_schema jsonb,
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline_id, version)
);

CREATE TABLE schedules (
    id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    pipeline_id text NOT NULL REFERENCES pipelines,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('api')),
    source text NOT NULL,
    source_config jsonb NOT NULL DEFAULT '{}',
    variables json NOT NULL DEFAULT '{}',
    is_paused boolean NOT NULL DEFAULT false,
    on_paused text NOT NULL DEFAULT 'queue' CHECK (on_paused IN ('queue', 'reject', 'run')),
    max_active_runs integer CHECK (max_active_runs > 0),
    body_limit integer CHECK (body_limit BETWEEN 1 AND 26214400),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE INDEX schedules_of_a_pipeline ON schedules (pipeline_id);

CREATE TABLE tokens (
    id uuid PRIMARY KEY,
    schedule_id uuid NOT NULL REFERENCES schedules,
    hash bytea NOT NULL CONSTRAINT a_token_is_unique UNIQUE CHECK (length(hash) = 32),
    hint text NOT NULL,
    label text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX tokens_of_a_schedule ON tokens (schedule_id, id);

-- A signed link carries this id; the row says how often it may still be used and with which variables.
CREATE TABLE links (
    id uuid PRIMARY KEY,
    schedule_id uuid NOT NULL REFERENCES schedules,
    variables json NOT NULL DEFAULT '{}',
    uses integer NOT NULL DEFAULT 0,
    max_uses integer CHECK (max_uses > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT a_link_is_not_used_up_twice CHECK (max_uses IS NULL OR uses <= max_uses)
);

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'editor', 'admin')),
    hash bytea NOT NULL CONSTRAINT an_api_key_is_unique UNIQUE CHECK (length(hash) = 32),
    hint text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at timestamptz
);

-- One counter that moves whenever a gateway's memory of schedules, tokens or keys may be stale; it is polled.
CREATE TABLE registry (
    is_single boolean PRIMARY KEY DEFAULT true CHECK (is_single),
    version bigint NOT NULL DEFAULT 1
);
INSERT INTO registry DEFAULT VALUES;

CREATE FUNCTION registry_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE registry SET version = version + 1;
    RETURN NULL;
END $$;

CREATE TRIGGER schedules_changed AFTER INSERT OR UPDATE OR DELETE ON schedules
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();
CREATE TRIGGER pipelines_paused AFTER UPDATE OF is_paused ON pipelines
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();
CREATE TRIGGER tokens_changed AFTER INSERT OR DELETE OR UPDATE OF expires_at, revoked_at ON tokens
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();
CREATE TRIGGER links_changed AFTER DELETE OR UPDATE OF revoked_at ON links
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();
CREATE TRIGGER api_keys_changed AFTER INSERT OR DELETE OR UPDATE OF revoked_at ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();

-- Every delivery that reached a schedule, byte for byte.
CREATE TABLE events (
    id uuid PRIMARY KEY,
    schedule_id uuid NOT NULL,
    source text NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('accepted', 'filtered', 'handshake', 'rejected')),
    reason text,
    event_type text,
    dedupe_key text,
    content_type text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('empty', 'json', 'form', 'text', 'binary')),
    headers json NOT NULL,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY RANGE (id);
CREATE INDEX events_of_a_schedule ON events (schedule_id, id);

-- "One delivery makes one run, for ever": unpartitioned, so that it outlives the events themselves.
CREATE TABLE event_keys (
    schedule_id uuid NOT NULL,
    dedupe_key text NOT NULL CHECK (length(dedupe_key) <= 250),
    event_id uuid NOT NULL,
    deliveries integer NOT NULL DEFAULT 1,
    last_delivery_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (schedule_id, dedupe_key)
);

-- A living runner renews one row; all its runs hang on it.
CREATE TABLE runners (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_expires_at timestamptz NOT NULL
);

CREATE TABLE runs (
    id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    pipeline_id text NOT NULL,
    version text,
    schedule_id uuid,
    event_id uuid,
    item integer NOT NULL DEFAULT 0,           -- which run of its event, when a delivery is split
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'success', 'failed', 'cancelled')),
    variables json NOT NULL DEFAULT '{}',
    logical_date timestamptz,
    run_key text CHECK (length(run_key) BETWEEN 1 AND 250),
    note text,
    attempt integer NOT NULL DEFAULT 0,        -- how often a runner took it
    max_attempts integer NOT NULL DEFAULT 5,
    epoch bigint NOT NULL DEFAULT 0,           -- the fencing token: moves on claim, release, reclaim and cancel
    dispatch integer NOT NULL DEFAULT 0,       -- which ring of the doorbell is the valid one
    seq integer NOT NULL DEFAULT 1,            -- of its newest change or log line
    lease_owner uuid,
    cancel_requested_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    error json,
    CONSTRAINT a_running_run_has_an_owner CHECK ((state = 'running') = (lease_owner IS NOT NULL)),
    CONSTRAINT a_terminal_run_has_finished
        CHECK ((state IN ('success', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT a_failed_run_says_why CHECK ((state = 'failed') = (error IS NOT NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX one_run_per_item_of_an_event ON runs (event_id, item) WHERE event_id IS NOT NULL;
CREATE UNIQUE INDEX run_key_is_unique_per_pipeline ON runs (pipeline_id, run_key) WHERE run_key IS NOT NULL;
CREATE INDEX runs_of_a_pipeline ON runs (pipeline_id, id);
CREATE INDEX runs_of_a_schedule ON runs (schedule_id, id) WHERE schedule_id IS NOT NULL;
CREATE INDEX runs_queued ON runs (pipeline_id, schedule_id, id) WHERE state = 'queued';
CREATE INDEX runs_running ON runs (lease_owner) WHERE state = 'running';
CREATE INDEX runs_that_did_not_succeed ON runs (id) WHERE state IN ('failed', 'cancelled');

CREATE FUNCTION refuse_to_rewrite_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.epoch < OLD.epoch THEN
        RAISE EXCEPTION 'epoch of run % went back from % to %', OLD.id, OLD.epoch, NEW.epoch USING ERRCODE = 'PS002';
    END IF;
    RAISE EXCEPTION 'run % is % and stays it', OLD.id, OLD.state USING ERRCODE = 'PS001';
END $$;

CREATE TRIGGER a_terminal_state_is_final BEFORE UPDATE ON runs FOR EACH ROW
    WHEN (NEW.epoch < OLD.epoch OR (OLD.finished_at IS NOT NULL AND NEW.state <> OLD.state))
    EXECUTE FUNCTION refuse_to_rewrite_history();

-- A block without a row is pending.
CREATE TABLE block_runs (
    run_id uuid NOT NULL,
    block_id text NOT NULL,
    state text NOT NULL CHECK
        (state IN ('pending', 'running', 'success', 'failed', 'cancelled', 'skipped', 'upstream_failed')),
    attempt integer NOT NULL,
    row_count bigint,
    duration_ms bigint,
    started_at timestamptz,
    finished_at timestamptz,
    error json,
    PRIMARY KEY (run_id, block_id)
) WITH (fillfactor = 80);

CREATE TABLE block_outputs (
    run_id uuid NOT NULL,
    block_id text NOT NULL,
    format text NOT NULL CHECK (format IN ('msgpack')),
    data bytea NOT NULL,
    PRIMARY KEY (run_id, block_id)
);

-- What watchers are told. A run's changes and log lines share one dense numbering, which belongs to the run's owner.
-- (xid, run_id, seq) below the oldest running transaction is a total order that never gains a row: the cursor of /v1/stream.
CREATE TABLE changes (
    run_id uuid NOT NULL,
    seq integer NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL CHECK (kind IN ('run', 'block')),
    state text NOT NULL,
    block_id text,
    attempt integer NOT NULL,
    row_count bigint,
    duration_ms bigint,
    error json,
    PRIMARY KEY (run_id, seq)
) PARTITION BY RANGE (run_id);
CREATE INDEX changes_in_order ON changes (xid);

CREATE TABLE logs (
    run_id uuid NOT NULL,
    seq integer NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL,
    block_id text,
    attempt integer NOT NULL,
    level text NOT NULL CHECK (level IN ('debug', 'info', 'warning', 'error')),
    message text NOT NULL,
    fields json NOT NULL DEFAULT '{}',
    PRIMARY KEY (run_id, seq)
) PARTITION BY RANGE (run_id);
CREATE INDEX logs_in_order ON logs (xid);

CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE TABLE changes_default PARTITION OF changes DEFAULT;
CREATE TABLE logs_default PARTITION OF logs DEFAULT;

-- The smallest UUIDv7 of a moment.
CREATE FUNCTION uuid_floor(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes one partition per day and table, from yesterday to some days ahead; a day whose rows already lie in the default
-- partition is left there. Safe to call at any time and from anywhere: attaching, unlike CREATE ... PARTITION OF, does not
-- stop those who insert.
CREATE FUNCTION ensure_partitions(days_ahead integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    day timestamptz;
    parent text;
    part text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('penstock.ensure_partitions'));
    FOR offset_days IN -1 .. days_ahead LOOP
        day := date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + offset_days * interval '1 day';
        FOREACH parent IN ARRAY ARRAY['events', 'changes', 'logs'] LOOP
            part := parent || to_char(day AT TIME ZONE 'UTC', '_YYYYMMDD');
            CONTINUE WHEN to_regclass(part) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                               parent, part, uuid_floor(day), uuid_floor(day + interval '1 day'));
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                RAISE NOTICE 'rows of % stay in the default partition', part;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

SELECT ensure_partitions(7);

-- The advisory lock that a runner holds while its process lives: 63 bits of its id.
CREATE FUNCTION uuid_lock(id uuid) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ('x' || right(replace(id::text, '-', ''), 16))::bit(64)::bigint & 9223372036854775807
$$;
