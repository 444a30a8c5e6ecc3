-- name: register
-- A runner begins to live.
INSERT INTO runners (id, name, lease_expires_at) VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')

-- name: beat
-- Renew the lease of a runner, on which all its runs hang, and hear which those are and which of them shall be cancelled.
-- Without a row the lease was lost for good.
WITH alive AS (
    UPDATE runners SET heartbeat_at = clock_timestamp(), lease_expires_at = clock_timestamp() + $2 * interval '1 second'
    WHERE id = $1
    RETURNING id
)
SELECT ARRAY(SELECT id FROM runs WHERE lease_owner = $1 AND state = 'running') AS owned,
       ARRAY(SELECT id FROM runs WHERE lease_owner = $1 AND state = 'running' AND cancel_requested_at IS NOT NULL)
           AS cancel,
       clock_timestamp() AS now
FROM alive

-- name: hold_alive_lock
-- Held on a connection of its own for as long as the process lives: kill -9 drops it at once.
SELECT pg_advisory_lock($1)

-- name: claim -> Claimed
-- Take queued runs whose doorbell rang: state, epoch and owner change together. What is paused, cancelled, rung again
-- since, of a pipeline that this runner does not have, or (unless $6) under a limit of active runs, stays.
WITH rung AS (
    SELECT * FROM unnest($1::uuid[], $2::integer[]) AS t (run_id, dispatch)
), offered AS (
    SELECT * FROM unnest($4::text[], $5::text[]) AS t (pipeline_id, version)
), locked AS MATERIALIZED (  -- by id and nothing else: an index of queued runs would be walked from end to end
    SELECT r.id, r.pipeline_id, r.schedule_id, r.state, r.cancel_requested_at
    FROM rung
    JOIN runs r ON r.id = rung.run_id AND r.dispatch = rung.dispatch
    ORDER BY r.id
    FOR UPDATE OF r SKIP LOCKED
), mine AS (
    SELECT r.id, o.version, (p.notify <> '{}' OR s.notify <> '{}') IS TRUE AS notifies
    FROM locked r
    JOIN offered o ON o.pipeline_id = r.pipeline_id
    JOIN pipelines p ON p.id = r.pipeline_id
    LEFT JOIN schedules s ON s.id = r.schedule_id
    WHERE r.state = 'queued'
      AND r.cancel_requested_at IS NULL
      AND (s.on_paused IS NOT DISTINCT FROM 'run' OR NOT (p.is_paused OR coalesce(s.is_paused, false)))
      AND ($6::boolean OR (p.max_active_runs IS NULL AND s.max_active_runs IS NULL))
      AND EXISTS (SELECT 1 FROM runners WHERE id = $3)
), claimed AS (
    UPDATE runs r SET
        state = 'running', epoch = r.epoch + 1, attempt = r.attempt + 1, seq = r.seq + 1, lease_owner = $3,
        version = mine.version, started_at = coalesce(r.started_at, clock_timestamp()),
        wants_callback = mine.notifies OR r.callback_url IS NOT NULL
    FROM mine
    WHERE r.id = mine.id
    RETURNING r.id, r.number, r.pipeline_id, r.schedule_id, r.event_id, r.variables, r.logical_date, r.origin,
              r.parent_id, r.queue, r.attempt, r.epoch, r.seq, r.wants_callback
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, seq, 'run', 'running', attempt FROM claimed
)
SELECT claimed.*, $6::boolean AS is_limited, NULL::float8 AS time_left_s, e.kind AS event_kind,
       e.content_type AS event_content_type, e.body AS event_body
FROM claimed
LEFT JOIN events e ON e.id = claimed.event_id

-- name: lock_limited
-- One claimer at a time where the number of active runs is limited.
SELECT pg_advisory_xact_lock(hashtextextended('penstock.limit.' || pipeline_id, 0))
FROM (SELECT DISTINCT unnest($1::text[]) AS pipeline_id ORDER BY 1) AS limited

-- name: within_limits
-- Of these runs, in order, those that fit beside the active ones of their pipeline and of their schedule.
WITH wanted AS (
    SELECT r.id, r.pipeline_id, r.schedule_id,
           row_number() OVER (PARTITION BY r.pipeline_id ORDER BY r.id) AS nth_of_pipeline,
           row_number() OVER (PARTITION BY r.schedule_id ORDER BY r.id) AS nth_of_schedule
    FROM runs r
    WHERE r.id = ANY ($1::uuid[]) AND r.state = 'queued'
)
SELECT w.id
FROM wanted w
JOIN pipelines p ON p.id = w.pipeline_id
LEFT JOIN schedules s ON s.id = w.schedule_id
WHERE (p.max_active_runs IS NULL OR w.nth_of_pipeline + (
          SELECT count(*) FROM runs a WHERE a.state = 'running' AND a.pipeline_id = p.id) <= p.max_active_runs)
  AND (s.max_active_runs IS NULL OR w.nth_of_schedule + (
          SELECT count(*) FROM runs a WHERE a.state = 'running' AND a.schedule_id = s.id) <= s.max_active_runs)

-- name: limited
-- Which of these runs are under a limit of active runs.
SELECT r.id, r.pipeline_id
FROM runs r
JOIN pipelines p ON p.id = r.pipeline_id
LEFT JOIN schedules s ON s.id = r.schedule_id
WHERE r.id = ANY ($1::uuid[]) AND (p.max_active_runs IS NOT NULL OR s.max_active_runs IS NOT NULL)

-- name: release
-- A runner hands runs of its own back to the queue, where what was begun does not count as an attempt; those that shall be
-- cancelled end here, since nobody would take them again.
WITH mine AS (
    SELECT id FROM runs
    WHERE id = ANY ($2::uuid[]) AND lease_owner = $1 AND state = 'running'
    ORDER BY id
    FOR UPDATE
), back AS (
    UPDATE runs r SET
        state = CASE WHEN r.cancel_requested_at IS NULL THEN 'queued' ELSE 'cancelled' END,
        finished_at = CASE WHEN r.cancel_requested_at IS NOT NULL THEN clock_timestamp() END,
        attempt = r.attempt - CASE WHEN r.cancel_requested_at IS NULL THEN 1 ELSE 0 END,
        epoch = r.epoch + 1, dispatch = r.dispatch + 1, seq = r.seq + 1, lease_owner = NULL
    FROM mine
    WHERE r.id = mine.id
    RETURNING r.id, r.dispatch, r.state, r.seq, r.attempt, r.pipeline_id, r.schedule_id
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, seq, 'run', state, attempt FROM back
)
SELECT id, dispatch, coalesce(schedule_id::text, pipeline_id) AS lane FROM back

-- name: unregister
-- A runner that ended in order leaves nothing behind.
DELETE FROM runners WHERE id = $1

-- name: dead_runners
-- Runners whose lease ran out, or whose process is gone: its lock is free and its heart stopped. After a restart of
-- Postgres, which frees every lock and stops every heart, all of them get one lease to come back. An owner that is not in
-- the table any more is dead, too: its last claim was under way when it left.
SELECT n.id
FROM runners n
WHERE clock_timestamp() > greatest(n.lease_expires_at, pg_postmaster_start_time() + $1 * interval '1 second')
   OR (clock_timestamp() > n.heartbeat_at + $2 * interval '1 second'
       AND clock_timestamp() > pg_postmaster_start_time() + $1 * interval '1 second'
       AND NOT EXISTS (
           SELECT 1 FROM pg_locks l
           WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
             AND (l.classid::bigint << 32 | l.objid::bigint) = uuid_lock(n.id)))
UNION
SELECT r.lease_owner
FROM runs r
WHERE r.state = 'running' AND NOT EXISTS (SELECT 1 FROM runners n WHERE n.id = r.lease_owner)

-- name: reclaim
-- Take the runs of dead runners back: to the queue, to cancelled if that was asked for, or to failed when they have killed
-- too many runners already.
WITH dead AS (
    SELECT r.id FROM runs r
    WHERE r.state = 'running' AND r.lease_owner = ANY ($1::uuid[])
    ORDER BY r.id
    LIMIT 500
    FOR UPDATE OF r SKIP LOCKED
), back AS (
    UPDATE runs r SET
        state = CASE WHEN r.cancel_requested_at IS NOT NULL THEN 'cancelled'
                     WHEN r.attempt >= r.max_attempts THEN 'failed'
                     ELSE 'queued' END,
        finished_at = CASE WHEN r.cancel_requested_at IS NOT NULL OR r.attempt >= r.max_attempts
                           THEN clock_timestamp() END,
        error = CASE WHEN r.cancel_requested_at IS NULL AND r.attempt >= r.max_attempts THEN json_build_object(
                    'type', 'CrashLoop', 'message', format('%s runners died while they executed this run', r.attempt)) END,
        epoch = r.epoch + 1, dispatch = r.dispatch + 1, seq = r.seq + 1, lease_owner = NULL
    FROM dead
    WHERE r.id = dead.id
    RETURNING r.id, r.dispatch, r.state, r.seq, r.attempt, r.error, r.pipeline_id, r.schedule_id
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt, error)
    SELECT id, seq, 'run', state, attempt, error FROM back
)
SELECT id, dispatch, state, coalesce(schedule_id::text, pipeline_id) AS lane FROM back

-- name: bury
-- Forget dead runners that own nothing any more.
DELETE FROM runners n
WHERE n.id = ANY ($1::uuid[]) AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.state = 'running' AND r.lease_owner = n.id)

-- name: due
-- Queued runs that should have been taken by now: the schedules of a pipeline in turns, each with its oldest runs, as far as
-- its own limit and that of the pipeline have room.
SELECT r.id, r.dispatch, coalesce(r.schedule_id::text, p.id) AS lane
FROM pipelines p
CROSS JOIN LATERAL (
    SELECT q.*
    FROM schedules s
    CROSS JOIN LATERAL (
        SELECT id, dispatch, schedule_id, row_number() OVER (ORDER BY id) AS turn
        FROM runs
        WHERE state = 'queued' AND pipeline_id = p.id AND schedule_id = s.id AND cancel_requested_at IS NULL
          AND created_at < clock_timestamp() - $2 * interval '1 second'
        ORDER BY id
        LIMIT least(1000, greatest(0, coalesce(s.max_active_runs, 1000) - (
            SELECT count(*) FROM runs a
            WHERE a.state = 'running' AND a.schedule_id = s.id AND s.max_active_runs IS NOT NULL)))
    ) q
    WHERE s.pipeline_id = p.id AND (s.on_paused = 'run' OR NOT (p.is_paused OR s.is_paused))
    UNION ALL
    (SELECT id, dispatch, schedule_id, row_number() OVER (ORDER BY id)
     FROM runs
     WHERE state = 'queued' AND pipeline_id = p.id AND schedule_id IS NULL AND cancel_requested_at IS NULL
       AND created_at < clock_timestamp() - $2 * interval '1 second' AND NOT p.is_paused
     ORDER BY id
     LIMIT 1000)
    ORDER BY turn, id
    LIMIT least(1000, greatest(0, coalesce(p.max_active_runs, 1000) - (
        SELECT count(*) FROM runs a WHERE a.state = 'running' AND a.pipeline_id = p.id AND p.max_active_runs IS NOT NULL)))
) r
WHERE p.id = ANY ($1::text[])

-- name: ensure_partitions
SELECT ensure_partitions($1)
