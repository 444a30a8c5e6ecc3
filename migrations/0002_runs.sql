-- Everything that a user may do with a run: why it exists, when it fires, where it executes, what it leaves, whom it tells.

-- 1. Pipelines: what their file says beside the graph, and what a user may set.

ALTER TABLE pipelines
    ADD on_paused text NOT NULL DEFAULT 'queue' CHECK (on_paused IN ('queue', 'reject', 'run')),
    ADD declared_max_active_runs integer,      -- the file's word; max_active_runs follows it only when it changes
    ADD queue text NOT NULL DEFAULT 'default' CHECK (queue ~ '^[a-z0-9_][a-z0-9_.-]{0,62}$'),
    ADD run_timeout_s double precision CHECK (run_timeout_s > 0),
    ADD notify jsonb NOT NULL DEFAULT '{}',
    ADD name text CHECK (length(name) BETWEEN 1 AND 200),      -- what users call it, and say of it, beside id and doc
    ADD description text CHECK (length(description) <= 10000);
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

-- A run that others end (cancelled while it waited, given up, taken from its owner: the epoch moves) leaves no block open.
CREATE FUNCTION end_open_blocks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE block_runs SET state = 'cancelled', finished_at = clock_timestamp()
    WHERE run_id = NEW.id AND state IN ('pending', 'running');
    RETURN NULL;
END $$;
CREATE TRIGGER blocks_end_with_their_run AFTER UPDATE OF state ON runs FOR EACH ROW
    WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL AND NEW.epoch > OLD.epoch
          AND OLD.started_at IS NOT NULL)
    EXECUTE FUNCTION end_open_blocks();

ALTER TABLE changes ADD map_index integer, ADD queue_ms bigint;
ALTER TABLE logs ADD map_index integer;

-- 5. Whom a run tells, and whom it waits for.

CREATE TABLE callbacks (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('webhook', 'slack', 'email')),
    reason text NOT NULL CHECK (reason IN ('finished', 'passed_sla')),
    target text NOT NULL,
    host text NOT NULL GENERATED ALWAYS AS (  -- one that is slow must not hold up the others
        coalesce(lower(substring(target FROM '^https?://(?:[^/@?#]*@)?(\[[^]]*\]|[^/:?#]+)')), kind)) STORED,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0,       -- since it was made; also fences the attempts of runners against each other
    failures integer NOT NULL DEFAULT 0,       -- since it was made or last resent
    next_attempt_at timestamptz,               -- while an attempt is under way: when it counts as lost
    delivered_at timestamptz,
    history jsonb NOT NULL DEFAULT '[]',       -- the newest attempts: when, how it was answered, how long it took
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT only_a_pending_callback_is_due CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT a_delivered_callback_says_when CHECK ((state = 'delivered') = (delivered_at IS NOT NULL)),
    CONSTRAINT each_target_is_told_once UNIQUE (run_id, reason, kind, target)
);
CREATE INDEX callbacks_due ON callbacks (next_attempt_at) WHERE state = 'pending';
CREATE INDEX callbacks_by_state ON callbacks (state, id);

-- A UUIDv7 of this moment, for rows that the database makes itself.
CREATE FUNCTION new_uuid() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT (left(uuid_floor(clock_timestamp())::text, 14) || '7' || right(gen_random_uuid()::text, 21))::uuid
$$;

-- Who is told of a run: its own callback_url and those of its schedule and pipeline hear of its end, Slack and e-mail of the
-- occasions that were chosen.
CREATE FUNCTION tell_targets() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    occasion text := CASE TG_ARGV[0] WHEN 'finished' THEN NEW.state ELSE TG_ARGV[0] END;
BEGIN
    WITH wishes AS (
        SELECT notify FROM pipelines WHERE id = NEW.pipeline_id
        UNION ALL
        SELECT notify FROM schedules WHERE id = NEW.schedule_id
    ), targets AS (
        SELECT 'webhook' AS kind, NEW.callback_url AS target WHERE TG_ARGV[0] = 'finished'
        UNION
        SELECT 'webhook', notify ->> 'callback_url' FROM wishes WHERE TG_ARGV[0] = 'finished'
        UNION
        SELECT 'slack', notify ->> 'slack_url' FROM wishes
        WHERE coalesce(notify -> 'on', '["failed", "passed_sla"]') ? occasion
        UNION
        SELECT 'email', jsonb_array_elements_text(notify -> 'email') FROM wishes
        WHERE coalesce(notify -> 'on', '["failed", "passed_sla"]') ? occasion
    )
    INSERT INTO callbacks (id, run_id, kind, reason, target, next_attempt_at)
    SELECT new_uuid(), NEW.id, kind, TG_ARGV[0], target, clock_timestamp() FROM targets WHERE target IS NOT NULL
    ON CONFLICT (run_id, reason, kind, target) DO NOTHING;
    RETURN NULL;
END $$;

-- Whether anybody wants to know is found out when a run is claimed, where its pipeline and schedule are at hand; a run that
-- ends without having been claimed looks here.
CREATE TRIGGER the_end_of_a_run_is_told AFTER UPDATE OF state ON runs FOR EACH ROW
    WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL AND (NEW.wants_callback OR OLD.state = 'queued'))
    EXECUTE FUNCTION tell_targets('finished');
CREATE TRIGGER a_passed_sla_is_told AFTER UPDATE OF passed_sla ON runs FOR EACH ROW
    WHEN (NEW.passed_sla AND NOT OLD.passed_sla)
    EXECUTE FUNCTION tell_targets('passed_sla');

-- A block that waits for an answer from outside; whoever has the token may give it, once. A block that tries again after a
-- failed answer asks anew: the next round, with a token of its own.
CREATE TABLE signals (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL,
    block_id text NOT NULL,
    map_index integer NOT NULL DEFAULT -1,
    round integer NOT NULL DEFAULT 1,
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

-- 9. Lists of a million runs: an index for each filter that may match few rows among many. Those on the way of a delivery
-- are partial, so that accepting one writes no more than `runs_waiting`.

CREATE INDEX runs_waiting ON runs (id) WHERE state = 'queued';      -- the newest and the oldest that wait; counting them
DROP INDEX runs_that_did_not_succeed;
CREATE INDEX runs_that_did_not_succeed ON runs (state, id) WHERE state IN ('failed', 'cancelled');
CREATE INDEX runs_of_a_pipeline_that_did_not_succeed ON runs (pipeline_id, state, id)
    WHERE state IN ('failed', 'cancelled');
CREATE INDEX runs_not_of_an_event ON runs (origin, id) WHERE origin <> 'event';
CREATE INDEX runs_with_a_note ON runs (id) WHERE note IS NOT NULL;
CREATE INDEX runs_by_key ON runs (lower(run_key) COLLATE "C") WHERE run_key IS NOT NULL;
CREATE INDEX events_not_accepted ON events (verdict, id) WHERE verdict <> 'accepted';

-- Whether a body has these letters, of which A to Z count in any case, within its first 16 KiB: no more is shown in a list.
-- A body is bytes and need not be text, so both are compared with every other byte escaped.
CREATE FUNCTION mentions(body bytea, letters text) RETURNS boolean LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
    SELECT strpos(lower(encode(substring(body FROM 1 FOR 16384), 'escape') COLLATE "C"),
                  lower(encode(convert_to(letters, 'UTF8'), 'escape') COLLATE "C")) > 0
$$;

-- 10. What a calendar counts: hours in which every run has ended are counted once. An hour is closed when it has the row of
-- all pipelines, whose pipeline_id is ''. Ids carry the moment in which they were made, and a run counts in that hour.

CREATE TABLE tallies (
    pipeline_id text NOT NULL,
    hour timestamptz NOT NULL CHECK (extract(epoch FROM hour) % 3600 = 0),
    success integer NOT NULL,
    failed integer NOT NULL,
    cancelled integer NOT NULL,
    PRIMARY KEY (pipeline_id, hour)
);
CREATE INDEX tallies_with_failures ON tallies (hour) WHERE failed > 0;

CREATE FUNCTION uuid_hour(id uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 3600000 * 3600)
$$;

-- The hours from a full one on that are not closed, as far as there may be runs in them.
CREATE FUNCTION open_hours(since timestamptz) RETURNS SETOF timestamptz LANGUAGE sql STABLE AS $$
    SELECT h.hour
    FROM generate_series(
        greatest(since, uuid_hour((SELECT id FROM runs ORDER BY id LIMIT 1))), now(), interval '1 hour'
    ) AS h (hour)
    WHERE NOT EXISTS (SELECT 1 FROM tallies t WHERE t.pipeline_id = '' AND t.hour = h.hour)
$$;

-- What every hour from a full one on counts, of one pipeline or of all (''): closed hours by their tallies, open ones live.
CREATE FUNCTION hourly(since timestamptz, pipeline text)
RETURNS TABLE (hour timestamptz, success bigint, failed bigint, cancelled bigint, running bigint, queued bigint)
LANGUAGE sql STABLE AS $$
    SELECT t.hour, t.success::bigint, t.failed::bigint, t.cancelled::bigint, 0::bigint, 0::bigint
    FROM tallies t
    WHERE t.pipeline_id = pipeline AND t.hour >= since
    UNION ALL
    SELECT open.hour, counted.*
    FROM open_hours(since) AS open (hour)
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE state = 'success'), count(*) FILTER (WHERE state = 'failed'),
               count(*) FILTER (WHERE state = 'cancelled'), count(*) FILTER (WHERE state = 'running'),
               count(*) FILTER (WHERE state = 'queued')
        FROM (
            SELECT state FROM runs
            WHERE pipeline = '' AND id >= uuid_floor(open.hour) AND id < uuid_floor(open.hour + interval '1 hour')
            UNION ALL
            SELECT state FROM runs
            WHERE pipeline <> '' AND pipeline_id = pipeline
              AND id >= uuid_floor(open.hour) AND id < uuid_floor(open.hour + interval '1 hour')
        ) of_the_hour
    ) counted
$$;

-- A person who overrules the state of a run that was counted moves it from one count to the other. The lock keeps this
-- apart from the closing of hours, which would count what it cannot see yet.
CREATE FUNCTION recount_marked_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('penstock.tallies'));
    UPDATE tallies SET
        success = success + (NEW.state = 'success')::integer - (OLD.state = 'success')::integer,
        failed = failed + (NEW.state = 'failed')::integer - (OLD.state = 'failed')::integer,
        cancelled = cancelled + (NEW.state = 'cancelled')::integer - (OLD.state = 'cancelled')::integer
    WHERE pipeline_id IN ('', NEW.pipeline_id) AND hour = uuid_hour(NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER a_marked_run_is_counted_anew AFTER UPDATE OF state ON runs FOR EACH ROW
    WHEN (OLD.finished_at IS NOT NULL AND NEW.state <> OLD.state)
    EXECUTE FUNCTION recount_marked_run();

-- 11. Purges: a row says how far one got, and the runners' housekeeping moves it on, step by step.

CREATE TABLE purges (
    id uuid PRIMARY KEY,
    days integer NOT NULL CHECK (days > 0),
    older_than timestamptz NOT NULL,
    requested_by text NOT NULL,
    automatic_on date CONSTRAINT one_automatic_purge_per_day UNIQUE,
    phase text NOT NULL DEFAULT 'runs' CHECK (phase IN ('runs', 'partitions', 'events', 'changes', 'logs', 'done')),
    cursor_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    cursor_seq integer NOT NULL DEFAULT 0,
    runs_before bigint NOT NULL DEFAULT 0,     -- about how many runs there are to look at, for the progress
    runs_seen bigint NOT NULL DEFAULT 0,
    runs bigint NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    changes bigint NOT NULL DEFAULT 0,
    log_lines bigint NOT NULL DEFAULT 0,
    outputs bigint NOT NULL DEFAULT 0,
    partitions integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    CONSTRAINT a_purge_that_is_done_has_finished CHECK ((phase = 'done') = (finished_at IS NOT NULL))
);
CREATE INDEX purges_under_way ON purges (id) WHERE finished_at IS NULL;

CREATE VIEW purges_now AS
SELECT id, days, older_than, requested_by, automatic_on IS NOT NULL AS is_automatic, phase,
       CASE phase WHEN 'done' THEN 1
                  WHEN 'runs' THEN least(0.9, 0.9 * runs_seen / greatest(runs_before, 1))
                  ELSE 0.9 END::float8 AS progress,
       runs, events, changes, log_lines, outputs, partitions, created_at, finished_at
FROM purges;

-- Purged runs whose files in the object store are still to be deleted.
CREATE TABLE discarded_runs (
    run_id uuid PRIMARY KEY,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX discarded_runs_due ON discarded_runs (next_attempt_at);

-- Partitions of whole days before a limit, the oldest first, with the ids that may lie in them.
CREATE FUNCTION partitions_before(boundary uuid) RETURNS TABLE (name text, parent text, first_id uuid, end_id uuid)
LANGUAGE sql STABLE STRICT AS $$
    SELECT part.relname::text, parent.relname::text, uuid_floor(day.start), uuid_floor(day.start + interval '1 day')
    FROM pg_inherits i
    JOIN pg_class part ON part.oid = i.inhrelid
    JOIN pg_class parent ON parent.oid = i.inhparent
    CROSS JOIN LATERAL (
        SELECT to_date(substring(part.relname FROM '_(\d{8})$'), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC'
    ) AS day (start)
    WHERE i.inhparent IN ('events'::regclass, 'changes'::regclass, 'logs'::regclass)
      AND uuid_floor(day.start + interval '1 day') <= boundary
    ORDER BY day.start, parent.relname
$$;

-- Detaching locks the parent against everybody. It waits for that lock so shortly that no delivery is held up for longer,
-- and gives up; whoever called tries again. (DETACH ... CONCURRENTLY is refused where there is a default partition.)
CREATE FUNCTION detach_partition(parent text, part text) RETURNS void LANGUAGE plpgsql SET lock_timeout = '50ms' AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, part);
    EXECUTE format('COMMENT ON TABLE %I IS %L', part, 'penstock: detached, to be dropped');
END $$;

-- Drops one table that was detached; nobody waits for it any more. Returns its name, or null when there is none.
CREATE FUNCTION drop_a_detached_partition() RETURNS text LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    part text;
BEGIN
    SELECT c.relname INTO part
    FROM pg_description d
    JOIN pg_class c ON c.oid = d.objoid
    WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0
      AND d.description = 'penstock: detached, to be dropped' AND c.relnamespace = current_schema()::regnamespace
    LIMIT 1;
    IF part IS NOT NULL THEN
        EXECUTE format('DROP TABLE IF EXISTS %I', part);
    END IF;
    RETURN part;
END $$;
