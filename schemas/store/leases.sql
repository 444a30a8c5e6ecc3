-- name: register
-- A runner begins to live.
INSERT INTO runners (id, name, queues, lease_expires_at)
VALUES ($1, $2, $4, clock_timestamp() + $3 * interval '1 second')

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
-- since, of a pipeline or queue that this runner does not have, or (unless $6) under a limit of active runs, stays.
WITH rung AS (
    SELECT * FROM unnest($1::uuid[], $2::integer[]) AS t (run_id, dispatch)
), offered AS (
    SELECT * FROM unnest($4::text[], $5::text[]) AS t (pipeline_id, version)
), locked AS MATERIALIZED (  -- by id and nothing else: an index of queued runs would be walked from end to end
    SELECT r.id, r.pipeline_id, r.schedule_id, r.backfill_id, r.state, r.queue, r.cancel_requested_at
    FROM rung
    JOIN runs r ON r.id = rung.run_id AND r.dispatch = rung.dispatch
    ORDER BY r.id
    FOR UPDATE OF r SKIP LOCKED
), mine AS (
    SELECT r.id, o.version, least(p.run_timeout_s, s.run_timeout_s) AS run_timeout_s,
           (p.notify <> '{}' OR s.notify <> '{}') IS TRUE AS notifies
    FROM locked r
    JOIN offered o ON o.pipeline_id = r.pipeline_id
    JOIN pipelines p ON p.id = r.pipeline_id
    LEFT JOIN schedules s ON s.id = r.schedule_id
    WHERE r.state = 'queued'
      AND r.queue = ANY ($7::text[])
      AND r.cancel_requested_at IS NULL
      AND NOT is_held(p.is_paused, p.on_paused, s.is_paused, s.on_paused)
      AND ($6::boolean OR (p.max_active_runs IS NULL AND s.max_active_runs IS NULL AND r.backfill_id IS NULL))
      AND EXISTS (SELECT 1 FROM runners WHERE id = $3)
), claimed AS (
    UPDATE runs r SET
        state = 'running', epoch = r.epoch + 1, attempt = r.attempt + 1, seq = r.seq + 1, lease_owner = $3,
        version = mine.version, started_at = coalesce(r.started_at, clock_timestamp()),
        wants_callback = mine.notifies OR r.callback_url IS NOT NULL
    FROM mine
    WHERE r.id = mine.id
    RETURNING r.id, r.number, r.pipeline_id, r.schedule_id, r.event_id, r.event_item, r.variables, r.logical_date, r.origin,
              r.parent_id, r.queue, r.attempt, r.epoch, r.seq, r.wants_callback,
              mine.run_timeout_s,
              mine.run_timeout_s - extract(epoch FROM clock_timestamp() - r.started_at)::float8 AS time_left_s
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, seq, 'run', 'running', attempt FROM claimed
)
SELECT claimed.id, number, pipeline_id, claimed.schedule_id, event_id, variables, logical_date, origin, parent_id, queue, attempt,
       epoch, seq, wants_callback, run_timeout_s, time_left_s, $6::boolean AS is_limited,
       CASE WHEN event_item IS NULL THEN e.kind ELSE 'json' END AS event_kind, e.content_type AS event_content_type,
       coalesce(event_item, e.body) AS event_body, CASE WHEN event_item IS NULL THEN e.object END AS event_object,
       e.size AS event_size, CASE WHEN e.object IS NOT NULL THEN encode(e.sha256, 'hex') END AS event_sha256
FROM claimed
LEFT JOIN events e ON e.id = claimed.event_id

-- name: limited
-- The pipelines of those runs that are under a limit of active runs.
SELECT r.id, r.pipeline_id
FROM runs r
JOIN pipelines p ON p.id = r.pipeline_id
LEFT JOIN schedules s ON s.id = r.schedule_id
WHERE r.id = ANY ($1::uuid[])
  AND (p.max_active_runs IS NOT NULL OR s.max_active_runs IS NOT NULL OR r.backfill_id IS NOT NULL)

-- name: lock_limited
-- One claimer at a time where the number of active runs is limited.
SELECT pg_advisory_xact_lock(hashtextextended('penstock.limit.' || pipeline_id, 0))
FROM (SELECT DISTINCT unnest($1::text[]) AS pipeline_id ORDER BY 1) AS limited

-- name: next
-- The queued runs that can start now, in order, at most so many of each pipeline ($1, $2), of these queues ($3) and of this
-- age ($4), all of them or ($5) only those under a limit of active runs. What has begun and changes its owner keeps its
-- place, and comes first. Then the lanes take turns, beginning behind the one that started last: each schedule, the calls
-- without a schedule and each backfill is one; each with its oldest first, as far as all limits have room.
WITH active AS MATERIALIZED (
    SELECT pipeline_id, schedule_id, backfill_id, count(*) AS runs
    FROM (SELECT pipeline_id, schedule_id, backfill_id FROM runs
          WHERE state = 'running' AND pipeline_id = ANY ($1::text[])
          UNION ALL
          SELECT pipeline_id, schedule_id, backfill_id FROM runs
          WHERE state = 'queued' AND started_at IS NOT NULL AND pipeline_id = ANY ($1::text[])) begun
    GROUP BY 1, 2, 3
), asked AS MATERIALIZED (
    SELECT p.id AS pipeline_id, t.most, p.is_paused, p.on_paused, p.max_active_runs IS NOT NULL AS is_limited,
           CASE WHEN p.max_active_runs IS NOT NULL THEN p.max_active_runs - coalesce((
               SELECT sum(runs) FROM active WHERE pipeline_id = p.id), 0) END AS room,
           coalesce((SELECT lane FROM turns WHERE pipeline_id = p.id), '') AS last_lane
    FROM unnest($1::text[], $2::integer[]) AS t (pipeline_id, most)
    JOIN pipelines p ON p.id = t.pipeline_id
), begun AS (
    SELECT a.pipeline_id, r.id, r.dispatch, r.lane, r.queue
    FROM asked a
    CROSS JOIN LATERAL (
        SELECT r.id, r.dispatch, coalesce(r.backfill_id::text, r.schedule_id::text, r.pipeline_id) AS lane, r.queue
        FROM runs r
        LEFT JOIN schedules s ON s.id = r.schedule_id
        LEFT JOIN backfills b ON b.id = r.backfill_id
        WHERE r.state = 'queued' AND r.started_at IS NOT NULL AND r.pipeline_id = a.pipeline_id
          AND r.queue = ANY ($3::text[]) AND r.cancel_requested_at IS NULL
          AND r.created_at < clock_timestamp() - $4 * interval '1 second'
          AND NOT is_held(a.is_paused, a.on_paused, s.is_paused, s.on_paused)
          AND (b.id IS NULL OR NOT (b.is_paused OR b.cancelled_at IS NOT NULL))
          AND (NOT $5::boolean OR a.is_limited OR s.max_active_runs IS NOT NULL OR b.id IS NOT NULL)
        ORDER BY r.id
        LIMIT a.most
    ) r
), lanes AS (
    SELECT a.pipeline_id, coalesce(backfill_id::text, schedule_id::text, a.pipeline_id) AS lane, schedule_id, backfill_id,
           room_of_schedule, least(a.most, a.room, room_of_schedule, room_of_backfill) AS most
    FROM asked a
    CROSS JOIN LATERAL (
        SELECT s.id AS schedule_id, NULL::uuid AS backfill_id, s.is_paused, s.on_paused, s.max_active_runs AS max_of_schedule,
               NULL::integer AS max_of_backfill
        FROM schedules s
        WHERE s.pipeline_id = a.pipeline_id
        UNION ALL
        SELECT NULL, NULL, NULL, NULL, NULL, NULL
        UNION ALL
        SELECT s.id, b.id, s.is_paused, s.on_paused, s.max_active_runs, b.max_active_runs
        FROM backfills b
        LEFT JOIN schedules s ON s.id = b.schedule_id
        WHERE b.pipeline_id = a.pipeline_id AND NOT (b.is_paused OR b.cancelled_at IS NOT NULL)
    ) l
    CROSS JOIN LATERAL (
        SELECT CASE WHEN max_of_schedule IS NOT NULL THEN max_of_schedule - coalesce((
                   SELECT sum(runs) FROM active x WHERE x.schedule_id = l.schedule_id), 0) END AS room_of_schedule,
               CASE WHEN max_of_backfill IS NOT NULL THEN max_of_backfill - coalesce((
                   SELECT sum(runs) FROM active x WHERE x.backfill_id = l.backfill_id), 0) END AS room_of_backfill
    ) rooms
    WHERE NOT is_held(a.is_paused, a.on_paused, l.is_paused, l.on_paused)
      AND (NOT $5::boolean OR a.is_limited OR num_nonnulls(max_of_schedule, max_of_backfill) > 0)
), waiting AS (
    SELECT l.pipeline_id, l.lane, l.schedule_id, l.room_of_schedule, l.most, r.id, r.dispatch, r.queue,
           row_number() OVER (PARTITION BY l.pipeline_id, l.lane ORDER BY r.id) AS turn
    FROM lanes l
    CROSS JOIN unnest($3::text[]) AS served (queue)
    CROSS JOIN LATERAL (
        (SELECT id, dispatch, queue FROM runs
         WHERE l.schedule_id IS NOT NULL AND l.backfill_id IS NULL
           AND state = 'queued' AND backfill_id IS NULL AND pipeline_id = l.pipeline_id AND schedule_id = l.schedule_id
           AND queue = served.queue AND started_at IS NULL AND cancel_requested_at IS NULL
           AND created_at < clock_timestamp() - $4 * interval '1 second'
         ORDER BY id LIMIT l.most)
        UNION ALL
        (SELECT id, dispatch, queue FROM runs
         WHERE l.schedule_id IS NULL AND l.backfill_id IS NULL
           AND state = 'queued' AND backfill_id IS NULL AND pipeline_id = l.pipeline_id AND schedule_id IS NULL
           AND queue = served.queue AND started_at IS NULL AND cancel_requested_at IS NULL
           AND created_at < clock_timestamp() - $4 * interval '1 second'
         ORDER BY id LIMIT l.most)
        UNION ALL
        (SELECT id, dispatch, queue FROM runs
         WHERE backfill_id = l.backfill_id AND state = 'queued'
           AND queue = served.queue AND started_at IS NULL AND cancel_requested_at IS NULL
           AND created_at < clock_timestamp() - $4 * interval '1 second'
         ORDER BY id LIMIT l.most)
    ) r
    WHERE l.most > 0
), fitting AS (  -- a backfill of a schedule shares the schedule's limit with its deliveries
    SELECT w.*, a.room, a.last_lane,
           row_number() OVER (PARTITION BY w.pipeline_id, w.schedule_id ORDER BY w.turn, w.lane <= a.last_lane, w.lane)
               AS nth_of_schedule
    FROM waiting w
    JOIN asked a ON a.pipeline_id = w.pipeline_id
    WHERE w.turn <= w.most
), fresh AS (
    SELECT f.*, row_number() OVER (PARTITION BY pipeline_id ORDER BY turn, lane <= last_lane, lane) AS nth
    FROM fitting f
    WHERE room_of_schedule IS NULL OR nth_of_schedule <= room_of_schedule
), first AS (
    SELECT c.*, row_number() OVER (PARTITION BY pipeline_id ORDER BY nth, id) AS place
    FROM (SELECT id, dispatch, lane, queue, pipeline_id, 0 AS nth FROM begun
          UNION ALL
          SELECT id, dispatch, lane, queue, pipeline_id, nth FROM fresh WHERE room IS NULL OR nth <= room) c
)
SELECT f.id, f.dispatch, f.lane, f.queue, f.pipeline_id
FROM first f
JOIN asked a ON a.pipeline_id = f.pipeline_id
WHERE f.place <= a.most
ORDER BY f.place

-- name: remember_turns
-- Which lane of each pipeline started a run last.
INSERT INTO turns (pipeline_id, lane)
SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (pipeline_id) DO UPDATE SET lane = excluded.lane

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
    RETURNING r.id, r.dispatch, r.state, r.seq, r.attempt, r.pipeline_id, r.schedule_id, r.backfill_id, r.queue
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, seq, 'run', state, attempt FROM back
)
SELECT id, dispatch, coalesce(backfill_id::text, schedule_id::text, pipeline_id) AS lane, queue FROM back

-- name: hand_over
-- The owner of a run hands it to those who serve another queue, where its next blocks execute; as with a release this is no
-- attempt, and a run that shall be cancelled ends here.
WITH back AS (
    UPDATE runs SET
        state = CASE WHEN cancel_requested_at IS NULL THEN 'queued' ELSE 'cancelled' END,
        finished_at = CASE WHEN cancel_requested_at IS NOT NULL THEN clock_timestamp() END,
        queue = $3, attempt = attempt - CASE WHEN cancel_requested_at IS NULL THEN 1 ELSE 0 END,
        epoch = epoch + 1, dispatch = dispatch + 1, seq = seq + 1, lease_owner = NULL
    WHERE id = $1 AND epoch = $2 AND state = 'running'
    RETURNING id, dispatch, state, seq, attempt, pipeline_id, schedule_id, backfill_id, queue
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, seq, 'run', state, attempt FROM back
)
SELECT id, dispatch, coalesce(backfill_id::text, schedule_id::text, pipeline_id) AS lane, queue FROM back

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
    RETURNING r.id, r.dispatch, r.state, r.seq, r.attempt, r.error, r.pipeline_id, r.schedule_id, r.backfill_id,
              r.queue
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt, error)
    SELECT id, seq, 'run', state, attempt, error FROM back
)
SELECT id, dispatch, coalesce(backfill_id::text, schedule_id::text, pipeline_id) AS lane, queue, state FROM back

-- name: bury
-- Forget dead runners that own nothing any more.
DELETE FROM runners n
WHERE n.id = ANY ($1::uuid[]) AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.state = 'running' AND r.lease_owner = n.id)

-- name: unserved_queues
-- Queues in which published blocks want to execute, or runs wait, and which no living runner serves.
SELECT wanted.queue
FROM (
    SELECT queue FROM pipelines WHERE graph IS NOT NULL
    UNION
    SELECT block ->> 'queue' FROM pipelines, jsonb_array_elements(graph -> 'blocks') AS block WHERE graph IS NOT NULL
    UNION
    SELECT queue FROM runs WHERE state = 'queued'
) wanted
WHERE wanted.queue IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM runners n WHERE wanted.queue = ANY (n.queues) AND n.lease_expires_at > clock_timestamp())
ORDER BY 1

-- name: ensure_partitions
SELECT ensure_partitions($1)
