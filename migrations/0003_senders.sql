-- What is decided at the gate, and everything that was, kept so that it can be explained and replayed.

-- 1. The rules of a schedule. Rules are never changed, only replaced: an event names those under which it was judged.

CREATE TABLE rules (
    id uuid PRIMARY KEY,
    filter text,
    mapping jsonb NOT NULL,
    dedupe text,
    split boolean NOT NULL
);

ALTER TABLE schedules
    ADD filter text CHECK (length(filter) BETWEEN 1 AND 10000),
    ADD mapping jsonb NOT NULL DEFAULT '{}',
    ADD dedupe text CHECK (length(dedupe) BETWEEN 1 AND 10000),
    ADD split boolean NOT NULL DEFAULT false,
    ADD rules_id uuid REFERENCES rules;

CREATE FUNCTION remember_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.rules_id := NULL;
    IF NEW.filter IS NOT NULL OR NEW.mapping <> '{}' OR NEW.dedupe IS NOT NULL OR NEW.split THEN
        NEW.rules_id := md5(ROW(NEW.filter, NEW.mapping::text, NEW.dedupe, NEW.split)::text)::uuid;
        INSERT INTO rules (id, filter, mapping, dedupe, split)
        VALUES (NEW.rules_id, NEW.filter, NEW.mapping, NEW.dedupe, NEW.split)
        ON CONFLICT (id) DO NOTHING;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER rules_of_a_schedule BEFORE INSERT OR UPDATE OF filter, mapping, dedupe, split ON schedules
    FOR EACH ROW EXECUTE FUNCTION remember_rules();

-- A schedule as it is shown, with where its clock stands.
CREATE VIEW schedules_now AS
SELECT s.id, s.number, s.pipeline_id, s.name, s.kind, s.source, s.source_config, s.filter, s.mapping, s.dedupe, s.split,
       s.variables, s.is_paused, s.on_paused, s.max_active_runs, s.body_limit, s.cron, s.every_s, s.timezone, s.start_at,
       s.end_at, s.catchup, s.jitter_s, s.overlap, s.sla_s, s.run_timeout_s, s.max_queue_age_s, s.notify,
       c.due_at AS next_fire_at, c.last_fired_at, s.created_at, s.updated_at
FROM schedules s
LEFT JOIN clocks c ON c.schedule_id = s.id
WHERE s.deleted_at IS NULL;

-- What a mapping gives is compared with the params, which a new version may change.
DROP TRIGGER pipelines_changed ON pipelines;
CREATE TRIGGER pipelines_changed AFTER UPDATE OF is_paused, queue, version ON pipelines
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();

-- 2. Events. Of a duplicate only a sample is kept, and its body only where that is not the first one's.

ALTER TABLE events
    ADD reason_code text,
    ADD query text NOT NULL DEFAULT '',
    ADD size integer NOT NULL DEFAULT 0,       -- of the body as it came, however much of it is kept
    ADD sha256 bytea CHECK (length(sha256) = 32),
    ADD timings json NOT NULL DEFAULT '{}',    -- microseconds of each check
    ADD observed text,                         -- what `strict` would have refused it for
    ADD rules_id uuid,
    ADD duplicate_of uuid,
    ADD object text,                           -- where a large body lies in the object store
    DROP CONSTRAINT events_verdict_check;
UPDATE events SET size = length(body), reason_code = CASE verdict WHEN 'filtered' THEN 'paused' END;
ALTER TABLE events
    ADD CONSTRAINT a_body_is_in_one_place CHECK (object IS NULL OR body = ''),
    ADD CONSTRAINT a_verdict_is_known
        CHECK (verdict IN ('accepted', 'duplicate', 'filtered', 'handshake', 'rejected')),
    ADD CONSTRAINT a_duplicate_has_a_first CHECK ((verdict = 'duplicate') = (duplicate_of IS NOT NULL)),
    ADD CONSTRAINT what_is_turned_away_says_why CHECK (verdict NOT IN ('filtered', 'rejected') OR reason_code IS NOT NULL);

ALTER TABLE event_keys
    ADD sha256 bytea,
    ADD conflicts integer NOT NULL DEFAULT 0;  -- how often it came with another body

-- 3. A delivery that is split has one run per item, whose `event_variables` are the item.

ALTER TABLE runs ADD event_item bytea;

-- 4. What a purge leaves to be deleted in the object store is a prefix: a run, an event, or all events of a day.

ALTER TABLE discarded_runs RENAME TO discarded_objects;
ALTER TABLE discarded_objects ALTER run_id TYPE text USING 'runs/' || run_id;
ALTER TABLE discarded_objects RENAME run_id TO prefix;
ALTER INDEX discarded_runs_due RENAME TO discarded_objects_due;

-- 5. The inspector's lists, of which nothing is written for a delivery that is accepted, and its stream.

CREATE INDEX events_by_reason ON events (reason_code, id) WHERE reason_code IS NOT NULL;
CREATE INDEX events_by_first ON events (duplicate_of, id) WHERE duplicate_of IS NOT NULL;

-- Events have their place in the cursor of /v1/stream as well: (xid, id, 0).
ALTER TABLE events ADD xid xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX events_in_order ON events (xid);

-- 6. Replays: of one event, or of all that a filter finds, the oldest first. Whichever gateway takes a step moves the cursor
-- in the transaction that writes the runs of that step, so a gateway that dies costs nothing and repeats nothing.

CREATE TABLE replays (
    id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    requested_by text NOT NULL,
    event_id uuid,
    filter jsonb,
    mode text CHECK (mode IN ('as_was', 'today')),  -- null: as it was where the event became runs, else today
    schedule_id uuid REFERENCES schedules,          -- null: each event's own
    rate_per_s integer NOT NULL CHECK (rate_per_s BETWEEN 1 AND 1000),
    most_events integer CHECK (most_events > 0),
    expected integer,                               -- how many events there were to replay; null: too many to count
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed', 'cancelled')),
    cursor_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),  -- when the next step may be taken, or the last one counts as lost
    accepted integer NOT NULL DEFAULT 0,
    filtered integer NOT NULL DEFAULT 0,
    rejected integer NOT NULL DEFAULT 0,
    handshake integer NOT NULL DEFAULT 0,
    skipped integer NOT NULL DEFAULT 0,
    runs integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    CONSTRAINT a_replay_is_of_one_event_or_of_many CHECK (num_nonnulls(event_id, filter) = 1),
    CONSTRAINT a_replay_that_ended_has_finished CHECK ((state = 'running') = (finished_at IS NULL))
);
CREATE INDEX replays_under_way ON replays (due_at) WHERE state = 'running';

ALTER TABLE runs
    ADD replay_id uuid,
    ADD CONSTRAINT a_replayed_run_names_its_replay
        CHECK ((origin = 'replay') = (replay_id IS NOT NULL) AND (replay_id IS NULL OR event_id IS NOT NULL));
CREATE UNIQUE INDEX one_run_per_item_of_a_replayed_event ON runs (event_id, replay_id, item) WHERE replay_id IS NOT NULL;
CREATE INDEX runs_of_a_replay ON runs (replay_id, id) WHERE replay_id IS NOT NULL;

CREATE VIEW replays_now AS
SELECT r.id, r.number, r.requested_by, r.event_id, r.filter, r.mode, r.schedule_id, r.rate_per_s, r.most_events AS "limit",
       r.state, r.expected,
       CASE WHEN r.state = 'completed' OR r.expected = 0 THEN 1 ELSE least(1, seen.events / r.expected::float8) END AS progress,
       seen.events, r.accepted, r.filtered, r.rejected, r.handshake, r.skipped, r.runs, r.created_at, r.finished_at
FROM replays r
CROSS JOIN LATERAL (SELECT r.accepted + r.filtered + r.rejected + r.handshake + r.skipped AS events) seen;
