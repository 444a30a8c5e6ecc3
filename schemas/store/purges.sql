-- name: create
-- `automatic_on` is the day of a purge that nobody asked for, of which there is one.
INSERT INTO purges (id, days, older_than, requested_by, automatic_on, runs_before)
VALUES ($1, $2::integer, clock_timestamp() - $2::integer * interval '1 day', $3, $4::date, $5)
ON CONFLICT (automatic_on) DO NOTHING
RETURNING id

-- name: get -> Purge
SELECT * FROM purges_now WHERE id = $1

-- name: page -> Purge
SELECT * FROM purges_now WHERE id < $1 ORDER BY id DESC LIMIT $2

-- name: now
SELECT clock_timestamp()

-- name: few_runs
-- Of each of the next: how many there are to delete, as long as they are few.
SELECT count(*) FROM (SELECT 1 FROM runs WHERE id < $1 AND finished_at < $2 LIMIT $3) AS few

-- name: few_events
SELECT count(*) FROM (SELECT 1 FROM events WHERE id < $1 LIMIT $2) AS few

-- name: few_changes
SELECT count(*) FROM (SELECT 1 FROM changes WHERE run_id < $1 LIMIT $2) AS few

-- name: few_log_lines
SELECT count(*) FROM (SELECT 1 FROM logs WHERE run_id < $1 LIMIT $2) AS few

-- name: few_outputs
SELECT count(*) FROM (SELECT 1 FROM block_outputs WHERE run_id < $1 LIMIT $2) AS few

-- name: many_runs
-- Of each of the next: how many there are by the planner's estimate, which takes no time however many.
EXPLAIN (FORMAT JSON) SELECT 1 FROM runs WHERE id < $1 AND finished_at < $2

-- name: many_events
EXPLAIN (FORMAT JSON) SELECT 1 FROM events WHERE id < $1

-- name: many_changes
EXPLAIN (FORMAT JSON) SELECT 1 FROM changes WHERE run_id < $1

-- name: many_log_lines
EXPLAIN (FORMAT JSON) SELECT 1 FROM logs WHERE run_id < $1

-- name: many_outputs
EXPLAIN (FORMAT JSON) SELECT 1 FROM block_outputs WHERE run_id < $1

-- name: take -> PurgeState
-- The oldest purge that is not done, for as long as this transaction lasts: whoever dies lets go of it.
SELECT id, older_than, phase, cursor_id, cursor_seq
FROM purges
WHERE finished_at IS NULL
ORDER BY id
LIMIT 1
FOR UPDATE SKIP LOCKED

-- name: delete_runs
-- Of the next $4 runs from the cursor on, delete those that ended before the limit, with everything that hangs on them. A
-- run that one still active came from stays: its outputs may be wanted.
WITH looked_at AS MATERIALIZED (
    SELECT id, finished_at FROM runs WHERE id > $2 AND id < uuid_floor($3) ORDER BY id LIMIT $4
), doomed AS MATERIALIZED (
    SELECT l.id
    FROM looked_at l
    WHERE l.finished_at < $3
      AND NOT EXISTS (SELECT 1 FROM runs child WHERE child.parent_id = l.id AND child.finished_at IS NULL)
), deleted AS (
    DELETE FROM runs r USING doomed WHERE r.id = doomed.id AND r.finished_at < $3 RETURNING r.id, r.epoch
), blocks AS (
    DELETE FROM block_runs b USING deleted WHERE b.run_id = deleted.id
), outputs AS (
    DELETE FROM block_outputs o USING deleted WHERE o.run_id = deleted.id RETURNING o.run_id, o.object
), discarded AS (
    INSERT INTO discarded_objects (prefix)
    SELECT 'runs/' || run_id FROM outputs WHERE object IS NOT NULL
    UNION
    SELECT 'runs/' || id FROM deleted WHERE epoch > 1  -- an owner that died may have left files that no row names
    ON CONFLICT DO NOTHING
), told AS (
    DELETE FROM callbacks c USING deleted WHERE c.run_id = deleted.id
), waited AS (
    DELETE FROM signals s USING deleted WHERE s.run_id = deleted.id
), seen AS (
    SELECT count(*) AS count, (SELECT id FROM looked_at ORDER BY id DESC LIMIT 1) AS last FROM looked_at
)
UPDATE purges SET
    cursor_id = CASE WHEN seen.count < $4 THEN '00000000-0000-0000-0000-000000000000' ELSE seen.last END,
    phase = CASE WHEN seen.count < $4 THEN 'partitions' ELSE 'runs' END,
    runs_seen = runs_seen + seen.count,
    runs = runs + (SELECT count(*) FROM deleted),
    outputs = outputs + (SELECT count(*) FROM outputs)
FROM seen
WHERE purges.id = $1

-- name: old_partitions -> OldPartition
-- Partitions whose whole day lies before the limit, with Postgres' estimate of their rows (-1: never counted).
SELECT p.name, p.parent, p.first_id, p.end_id, c.reltuples::bigint AS rows
FROM partitions_before(uuid_floor($1)) p
JOIN pg_class c ON c.oid = p.name::regclass

-- name: is_needed_by_runs
-- Whether a run that was kept is of this day, so that its changes and log lines are.
SELECT EXISTS (SELECT 1 FROM runs WHERE id >= $1 AND id < $2)

-- name: is_needed_by_events_of_runs
-- Whether a run that was kept came from an event of this day.
SELECT EXISTS (SELECT 1 FROM runs WHERE event_id >= $1 AND event_id < $2)

-- name: count_events
SELECT count(*) FROM (SELECT 1 FROM events WHERE id >= $1 AND id < $2 LIMIT $3) AS few

-- name: count_changes
SELECT count(*) FROM (SELECT 1 FROM changes WHERE run_id >= $1 AND run_id < $2 LIMIT $3) AS few

-- name: count_log_lines
SELECT count(*) FROM (SELECT 1 FROM logs WHERE run_id >= $1 AND run_id < $2 LIMIT $3) AS few

-- name: detach
SELECT detach_partition($1, $2)

-- name: discard
-- Let everything below a prefix of the object store be deleted.
INSERT INTO discarded_objects (prefix) VALUES ($1) ON CONFLICT DO NOTHING

-- name: drop_detached
SELECT drop_a_detached_partition()

-- name: dropped
UPDATE purges SET partitions = partitions + 1, events = events + $2, changes = changes + $3, log_lines = log_lines + $4
WHERE id = $1

-- name: next_phase
UPDATE purges SET
    phase = $2, cursor_id = '00000000-0000-0000-0000-000000000000', cursor_seq = 0,
    finished_at = CASE WHEN $2 = 'done' THEN clock_timestamp() END
WHERE id = $1

-- name: delete_events
-- What no dropped partition took along: of the next $4 events from the cursor on, those that no run came from any more.
WITH looked_at AS MATERIALIZED (
    SELECT id FROM events WHERE id > $2 AND id < uuid_floor($3) ORDER BY id LIMIT $4
), deleted AS (
    DELETE FROM events e USING looked_at l
    WHERE e.id = l.id AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.event_id = l.id)
    RETURNING e.id, e.object
), discarded AS (
    INSERT INTO discarded_objects (prefix)
    SELECT regexp_replace(object, '/[^/]*$', '') FROM deleted WHERE object IS NOT NULL
    ON CONFLICT DO NOTHING
), seen AS (
    SELECT count(*) AS count, (SELECT id FROM looked_at ORDER BY id DESC LIMIT 1) AS last FROM looked_at
)
UPDATE purges SET
    cursor_id = CASE WHEN seen.count < $4 THEN '00000000-0000-0000-0000-000000000000' ELSE seen.last END,
    phase = CASE WHEN seen.count < $4 THEN 'changes' ELSE 'events' END,
    events = events + (SELECT count(*) FROM deleted)
FROM seen
WHERE purges.id = $1

-- name: delete_changes
-- The same for changes, of runs that are gone.
WITH looked_at AS MATERIALIZED (
    SELECT run_id, seq FROM changes
    WHERE run_id >= $2 AND (run_id, seq) > ($2, $5::integer) AND run_id < uuid_floor($3)
    ORDER BY run_id, seq
    LIMIT $4
), deleted AS (
    DELETE FROM changes c USING looked_at l
    WHERE c.run_id = l.run_id AND c.seq = l.seq AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = l.run_id)
    RETURNING c.run_id
), seen AS (
    SELECT count(*) AS count, (array_agg(run_id ORDER BY run_id DESC, seq DESC))[1] AS last_id,
           (array_agg(seq ORDER BY run_id DESC, seq DESC))[1] AS last_seq
    FROM looked_at
)
UPDATE purges SET
    cursor_id = CASE WHEN seen.count < $4 THEN '00000000-0000-0000-0000-000000000000' ELSE seen.last_id END,
    cursor_seq = CASE WHEN seen.count < $4 THEN 0 ELSE seen.last_seq END,
    phase = CASE WHEN seen.count < $4 THEN 'logs' ELSE 'changes' END,
    changes = changes + (SELECT count(*) FROM deleted)
FROM seen
WHERE purges.id = $1

-- name: delete_log_lines
-- The same for log lines; it is the last thing that a purge does.
WITH looked_at AS MATERIALIZED (
    SELECT run_id, seq FROM logs
    WHERE run_id >= $2 AND (run_id, seq) > ($2, $5::integer) AND run_id < uuid_floor($3)
    ORDER BY run_id, seq
    LIMIT $4
), deleted AS (
    DELETE FROM logs c USING looked_at l
    WHERE c.run_id = l.run_id AND c.seq = l.seq AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = l.run_id)
    RETURNING c.run_id
), seen AS (
    SELECT count(*) AS count, (array_agg(run_id ORDER BY run_id DESC, seq DESC))[1] AS last_id,
           (array_agg(seq ORDER BY run_id DESC, seq DESC))[1] AS last_seq
    FROM looked_at
)
UPDATE purges SET
    cursor_id = CASE WHEN seen.count < $4 THEN '00000000-0000-0000-0000-000000000000' ELSE seen.last_id END,
    cursor_seq = CASE WHEN seen.count < $4 THEN 0 ELSE seen.last_seq END,
    phase = CASE WHEN seen.count < $4 THEN 'done' ELSE 'logs' END,
    finished_at = CASE WHEN seen.count < $4 THEN clock_timestamp() END,
    log_lines = log_lines + (SELECT count(*) FROM deleted)
FROM seen
WHERE purges.id = $1

-- name: take_discarded
-- Prefixes of what is to be deleted now; they come back later unless they are forgotten, the more often the later.
WITH due AS (
    SELECT prefix FROM discarded_objects
    WHERE next_attempt_at <= clock_timestamp()
    ORDER BY next_attempt_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
UPDATE discarded_objects d SET
    attempts = attempts + 1,
    next_attempt_at = clock_timestamp() + least(3600, 15 * power(2, least(attempts, 10))) * interval '1 second'
FROM due
WHERE d.prefix = due.prefix
RETURNING d.prefix

-- name: forget_discarded
DELETE FROM discarded_objects WHERE prefix = ANY ($1::text[])
