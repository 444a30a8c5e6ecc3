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
