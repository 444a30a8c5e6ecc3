-- Everything that a user may do with a run: why it exists, when it fires, where it executes, what it leaves, whom it tells.

-- 1. Pipelines: what their file says beside the graph, and what a user may set.

ALTER TABLE pipelines
    ADD on_paused text NOT NULL DEFAULT 'queue' CHECK (on_paused IN ('queue', 'reject', 'run')),
    ADD declared_max_active_runs integer,      -- the file's word; max_active_runs follows it only when it changes
    ADD queue text NOT NULL DEFAULT 'default' CHECK (queue ~ '^[a-z0-9_][a-z0-9_.-]{0,62}$'),
    ADD run_timeout_s double precision CHECK (run_timeout_s > 0),
    ADD notify jsonb NOT NULL DEFAULT '{}';
UPDATE pipelines SET declared_max_active_runs = max_active_runs;
DROP TRIGGER pipelines_paused ON pipelines;
CREATE TRIGGER pipelines_changed AFTER UPDATE OF is_paused, queue ON pipelines
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();

-- 2. Schedules in time.

ALTER TABLE schedules
    DROP CONSTRAINT schedules_kind_check,
    ADD CONSTRAINT schedules_kind_check CHECK (kind IN ('api', 'time')),
    ADD cron text,
    ADD every_s integer CHECK (every_s > 0),
    ADD timezone text NOT NULL DEFAULT 'UTC',
    ADD start_at timestamptz,
    ADD end_at timestamptz,
    ADD catchup boolean NOT NULL DEFAULT false,
    ADD jitter_s integer NOT NULL DEFAULT 0 CHECK (jitter_s >= 0),
    ADD overlap text NOT NULL DEFAULT 'allow' CHECK (overlap IN ('allow', 'skip')),
    ADD sla_s integer CHECK (sla_s > 0),
    ADD run_timeout_s double precision CHECK (run_timeout_s > 0),
    ADD max_queue_age_s integer CHECK (max_queue_age_s > 0),
    ADD notify jsonb NOT NULL DEFAULT '{}',
    ADD CONSTRAINT a_time_schedule_says_when CHECK ((kind = 'time') = (num_nonnulls(cron, every_s) = 1)),
    ADD CONSTRAINT only_a_time_schedule_says_when CHECK (kind = 'time' OR num_nonnulls(cron, every_s) = 0);

-- Where each time schedule stands; apart from `schedules`, since it moves all the time and no gateway has to know.
CREATE TABLE clocks (
    schedule_id uuid PRIMARY KEY REFERENCES schedules,
    next_slot timestamptz,                     -- the next moment that its cron or interval names; null after its end
    due_at timestamptz,                        -- the same with its jitter
    last_slot timestamptz,
    last_fired_at timestamptz,
    skipped bigint NOT NULL DEFAULT 0,         -- slots that were left out because the previous run was still active
    CONSTRAINT a_next_slot_is_due CHECK ((next_slot IS NULL) = (due_at IS NULL))
);
CREATE INDEX clocks_due ON clocks (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE backfills (
    id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    pipeline_id text NOT NULL REFERENCES pipelines,
    schedule_id uuid REFERENCES schedules,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 250),
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    every text NOT NULL,
    timezone text NOT NULL,
    variables json NOT NULL DEFAULT '{}',
    max_active_runs integer NOT NULL CHECK (max_active_runs > 0),
    total integer NOT NULL,
    is_paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    cancelled_at timestamptz,
    CONSTRAINT the_same_backfill_is_asked_for_once UNIQUE (pipeline_id, key)
);

-- 3. Runs.

ALTER TABLE runs
    ADD origin text NOT NULL DEFAULT 'api'
        CHECK (origin IN ('event', 'api', 'time', 'backfill', 'resume', 'rerun', 'replay', 'run')),
    ADD parent_id uuid,                        -- the run that it resumes, reruns, or was triggered by
    ADD backfill_id uuid,
    ADD queue text NOT NULL DEFAULT 'default', -- which runners may take it now
    ADD callback_url text,
    ADD wants_callback boolean NOT NULL DEFAULT false,
    ADD passed_sla boolean NOT NULL DEFAULT false,
    ADD marked_at timestamptz;                 -- when a person last overruled its state
UPDATE runs SET origin = 'event' WHERE event_id IS NOT NULL;
ALTER TABLE runs
    ADD CONSTRAINT a_run_has_the_origin_that_it_names CHECK (CASE origin
        WHEN 'event' THEN event_id IS NOT NULL AND parent_id IS NULL
        WHEN 'time' THEN schedule_id IS NOT NULL AND logical_date IS NOT NULL
        WHEN 'backfill' THEN backfill_id IS NOT NULL AND logical_date IS NOT NULL
        WHEN 'resume' THEN parent_id IS NOT NULL
        WHEN 'rerun' THEN parent_id IS NOT NULL
        WHEN 'run' THEN parent_id IS NOT NULL
        ELSE true END);

-- Runs that repeat another one keep its event; only the first of an event's runs is the answer to a duplicate delivery.
DROP INDEX one_run_per_item_of_an_event;
CREATE UNIQUE INDEX one_run_per_item_of_an_event ON runs
    (event_id, item, (CASE origin WHEN 'event' THEN '00000000-0000-0000-0000-000000000000'::uuid ELSE id END))
    WHERE event_id IS NOT NULL;
CREATE UNIQUE INDEX one_run_per_slot ON runs (schedule_id, logical_date) WHERE origin = 'time';
CREATE UNIQUE INDEX one_run_per_date_of_a_backfill ON runs (backfill_id, logical_date) WHERE origin = 'backfill';
CREATE INDEX runs_of_a_backfill ON runs (backfill_id, state, queue, id) WHERE backfill_id IS NOT NULL;

-- Where each backfill stands. Its key begins with the 64 characters that stand for the request; behind them is the caller's.
CREATE VIEW backfills_now AS
SELECT b.id, b.number, b.pipeline_id, b.schedule_id, nullif(substr(b.key, 66), '') AS key, b.start_at AS start,
       b.end_at AS "end", b.every, b.timezone, b.variables, b.max_active_runs, b.total, b.created_at, b.cancelled_at,
       progress.*,
       CASE WHEN b.cancelled_at IS NOT NULL THEN 'cancelled'
            WHEN progress.queued + progress.running = 0 THEN 'completed'
            WHEN b.is_paused THEN 'paused'
            ELSE 'running' END AS state
FROM backfills b
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'queued') AS queued, count(*) FILTER (WHERE state = 'running') AS running,
           count(*) FILTER (WHERE state = 'success') AS success, count(*) FILTER (WHERE state = 'failed') AS failed,
           count(*) FILTER (WHERE state = 'cancelled') AS cancelled
    FROM runs
    WHERE backfill_id = b.id
) progress;

CREATE INDEX runs_of_a_parent ON runs (parent_id) WHERE parent_id IS NOT NULL;
CREATE UNIQUE INDEX one_active_resume_of_a_run ON runs (parent_id)
    WHERE origin = 'resume' AND state IN ('queued', 'running');
DROP INDEX runs_queued;
CREATE INDEX runs_queued ON runs (pipeline_id, schedule_id, queue, id) WHERE state = 'queued' AND backfill_id IS NULL;
CREATE INDEX runs_begun ON runs (pipeline_id, id) WHERE state = 'queued' AND started_at IS NOT NULL;

-- G4: the system writes one terminal state, once. Only a person may overrule it, and then the row says when.
DROP TRIGGER a_terminal_state_is_final ON runs;
CREATE TRIGGER a_terminal_state_is_final BEFORE UPDATE ON runs FOR EACH ROW
    WHEN (NEW.epoch < OLD.epoch OR (OLD.finished_at IS NOT NULL AND NEW.state <> OLD.state
          AND NEW.marked_at IS NOT DISTINCT FROM OLD.marked_at))
    EXECUTE FUNCTION refuse_to_rewrite_history();

-- 4. Blocks: a mapped block has one row for itself (map_index -1) and one for each item of its list.

ALTER TABLE block_runs
    ADD map_index integer NOT NULL DEFAULT -1 CHECK (map_index >= -1),
    ADD queue_ms bigint,                       -- how long it was ready before a block host took it
    DROP CONSTRAINT block_runs_pkey,
    ADD PRIMARY KEY (run_id, block_id, map_index);

ALTER TABLE block_outputs
    ADD map_index integer NOT NULL DEFAULT -1 CHECK (map_index >= -1),
    ADD object text,                           -- the key in the object store, when it is too large for a row
    ADD size bigint NOT NULL DEFAULT 0,
    ADD preview json,
    ADD profile json,
    ALTER data DROP NOT NULL,
    DROP CONSTRAINT block_outputs_format_check,
    ADD CONSTRAINT block_outputs_format_check CHECK (format IN ('msgpack', 'polars', 'pandas', 'arrow')),
    ADD CONSTRAINT an_output_is_here_or_in_the_object_store CHECK (num_nonnulls(data, object) = 1),
    DROP CONSTRAINT block_outputs_pkey,
    ADD PRIMARY KEY (run_id, block_id, map_index);
UPDATE block_outputs SET size = length(data);

ALTER TABLE changes ADD map_index integer, ADD queue_ms bigint;
ALTER TABLE logs ADD map_index integer;

-- 5. Whom a run tells, and whom it waits for.

CREATE TABLE callbacks (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('webhook', 'slack', 'email')),
    reason text NOT NULL CHECK (reason IN ('finished', 'passed_sla')),
    target text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    delivered_at timestamptz,
    history jsonb NOT NULL DEFAULT '[]',       -- the newest attempts: when, how it was answered, how long it took
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT only_a_pending_callback_is_due CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT a_delivered_callback_says_when CHECK ((state = 'delivered') = (delivered_at IS NOT NULL)),
    CONSTRAINT each_target_is_told_once UNIQUE (run_id, reason, kind, target)
);
CREATE INDEX callbacks_due ON callbacks (next_attempt_at) WHERE state = 'pending';

-- A block that waits for an answer from outside; whoever has the token may give it, once.
CREATE TABLE signals (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL,
    block_id text NOT NULL,
    map_index integer NOT NULL DEFAULT -1,
    hash bytea NOT NULL CONSTRAINT a_signal_is_unique UNIQUE CHECK (length(hash) = 32),
    sent_at timestamptz,                       -- when the outside system took the request
    received_at timestamptz,
    payload json,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT a_received_signal_has_a_payload CHECK ((received_at IS NULL) = (payload IS NULL)),
    CONSTRAINT a_block_waits_for_one_signal UNIQUE (run_id, block_id, map_index)
);

-- 6. What people did.

CREATE TABLE audit (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    key_id uuid,
    caller text NOT NULL,
    role text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,                     -- what it was done to: `run:ID`, `pipeline:ID`, ...
    details json NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_of_a_subject ON audit (subject, id);
CREATE INDEX audit_of_an_action ON audit (action, id);
CREATE INDEX audit_of_a_caller ON audit (caller, id);

-- 7. Who may take a run, and when.

ALTER TABLE runners ADD queues text[] NOT NULL DEFAULT '{default}';

-- Which lane of a pipeline under a limit was the last to start a run, so that the next one comes first.
CREATE TABLE turns (
    pipeline_id text PRIMARY KEY,
    lane text NOT NULL
);

CREATE INDEX schedules_with_an_sla ON schedules (id) WHERE sla_s IS NOT NULL;
CREATE INDEX schedules_with_a_queue_age ON schedules (id) WHERE max_queue_age_s IS NOT NULL;

-- Whether a queued run waits because its pipeline or its schedule is paused; a run without a schedule has nulls there.
-- `run` on the schedule lets its runs start although either is paused; `run` on the pipeline, although the pipeline is.
CREATE FUNCTION is_held(pipeline_is_paused boolean, pipeline_on_paused text, schedule_is_paused boolean,
                        schedule_on_paused text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT schedule_on_paused IS DISTINCT FROM 'run'
       AND (coalesce(schedule_is_paused, false) OR (pipeline_is_paused AND pipeline_on_paused <> 'run'))
$$;

-- 8. Dry runs: a request, and beside it the answer, until whoever asked has it.

CREATE TABLE dry_runs (
    id uuid PRIMARY KEY,
    pipeline_id text NOT NULL,
    variables json NOT NULL,
    event_variables bytea,                     -- JSON; none when no event is made up
    most_rows integer NOT NULL CHECK (most_rows > 0),
    expires_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,       -- how many runners took it; the second one is the last
    taken_by uuid,
    result json,
    CONSTRAINT who_answers_has_taken_it CHECK (result IS NULL OR taken_by IS NOT NULL),
    CONSTRAINT who_has_taken_it_counts CHECK ((attempts > 0) = (taken_by IS NOT NULL))
);
CREATE INDEX dry_runs_waiting ON dry_runs (id) WHERE result IS NULL;
CREATE INDEX dry_runs_by_expiry ON dry_runs (expires_at);
