-- name: now
SELECT clock_timestamp()

-- name: get -> Clock
SELECT schedule_id, next_slot, due_at, last_slot, last_fired_at, skipped, clock_timestamp() AS now
FROM clocks
WHERE schedule_id = $1

-- name: set
-- Say when a schedule fires next, or that it does not; what it has fired so far stays known.
INSERT INTO clocks (schedule_id, next_slot, due_at) VALUES ($1, $2, $3)
ON CONFLICT (schedule_id) DO UPDATE SET next_slot = excluded.next_slot, due_at = excluded.due_at

-- name: page -> ClockStatus
-- Where the clocks stand, in the order in which they fire; those that have ended come last.
SELECT c.schedule_id, s.number, s.name, s.pipeline_id, s.cron, s.every_s, s.timezone,
       s.is_paused OR p.is_paused AS is_paused, c.due_at AS next_fire_at, c.last_slot, c.last_fired_at, c.skipped,
       CASE WHEN s.on_paused = 'run' OR NOT (s.is_paused OR p.is_paused)
            THEN greatest(extract(epoch FROM clock_timestamp() - c.due_at), 0)::float8 END AS lag_s
FROM clocks c
JOIN schedules s ON s.id = c.schedule_id
JOIN pipelines p ON p.id = s.pipeline_id
WHERE s.deleted_at IS NULL
  AND ($1::timestamptz IS NULL OR (coalesce(c.due_at, '9999-12-31+00'), c.schedule_id) > ($1, $2::uuid))
  AND ($3::text IS NULL OR s.pipeline_id = $3)
ORDER BY coalesce(c.due_at, '9999-12-31+00'), c.schedule_id
LIMIT $4

-- name: wait
-- How many seconds it is until the first clock is due that may fire.
SELECT extract(epoch FROM c.due_at - clock_timestamp())::float8
FROM clocks c
JOIN schedules s ON s.id = c.schedule_id
JOIN pipelines p ON p.id = s.pipeline_id
WHERE c.due_at IS NOT NULL AND (s.on_paused = 'run' OR NOT (s.is_paused OR p.is_paused))
ORDER BY c.due_at
LIMIT 1

-- name: lock_due -> DueClock
-- The clocks that are due and may fire, those that others do not fire right now. The lock on the schedule keeps whoever
-- changes it from setting its clock at the same time.
SELECT c.schedule_id, c.next_slot, s.pipeline_id, s.cron, s.every_s, s.timezone, s.start_at, s.end_at, s.catchup,
       s.jitter_s, s.overlap, statement_timestamp() AS now
FROM clocks c
JOIN schedules s ON s.id = c.schedule_id
JOIN pipelines p ON p.id = s.pipeline_id
WHERE c.due_at <= statement_timestamp() AND (s.on_paused = 'run' OR NOT (s.is_paused OR p.is_paused))
ORDER BY c.due_at
LIMIT $1
FOR NO KEY UPDATE OF c SKIP LOCKED
FOR SHARE OF s SKIP LOCKED

-- name: busy
-- Those of these schedules that have a run which waits or executes; what a backfill runs does not count. Asked in two
-- parts, each of which reads the small index of its state and never a schedule's long past.
SELECT s.id
FROM unnest($1::uuid[], $2::text[]) AS s (id, pipeline_id)
WHERE s.id IN (SELECT schedule_id FROM runs WHERE state = 'running' AND backfill_id IS NULL)
   OR EXISTS (
    SELECT 1 FROM runs r
    WHERE r.state = 'queued' AND r.backfill_id IS NULL AND r.pipeline_id = s.pipeline_id AND r.schedule_id = s.id)

-- name: fire
-- Write the runs of many slots and move the clocks. A slot that has its run already, since its clock was set back, gets no
-- second one.
WITH run AS (
    INSERT INTO runs (id, pipeline_id, schedule_id, variables, logical_date, origin, queue)
    SELECT t.run_id, s.pipeline_id, s.id, s.variables, t.slot, 'time', p.queue
    FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS t (run_id, schedule_id, slot)
    JOIN schedules s ON s.id = t.schedule_id
    JOIN pipelines p ON p.id = s.pipeline_id
    ORDER BY t.run_id
    ON CONFLICT (schedule_id, logical_date) WHERE origin = 'time' DO NOTHING
    RETURNING id, dispatch, schedule_id, queue
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, 1, 'run', 'queued', 0 FROM run
), moved AS (
    UPDATE clocks c SET
        next_slot = t.next_slot,
        due_at = t.due_at,
        last_slot = coalesce(t.fired_slot, c.last_slot),
        last_fired_at = CASE WHEN t.fired_slot IS NULL THEN c.last_fired_at ELSE clock_timestamp() END,
        skipped = c.skipped + t.skipped
    FROM unnest($4::uuid[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::bigint[])
        AS t (schedule_id, next_slot, due_at, fired_slot, skipped)
    WHERE c.schedule_id = t.schedule_id
)
SELECT id, dispatch, schedule_id::text AS lane, queue FROM run
