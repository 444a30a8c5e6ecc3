-- name: of_runs -> Change
-- The history of watched runs, each after its own cursor, in order.
SELECT c.*
FROM unnest($1::uuid[], $2::integer[]) AS w (run_id, after)
CROSS JOIN LATERAL (
    (SELECT run_id, seq, at, kind, state, block_id, map_index, attempt, row_count, duration_ms, coalesce(error, 'null') AS error,
            NULL::text AS level, NULL::text AS message, 'null'::json AS fields
     FROM changes WHERE run_id = w.run_id AND seq > w.after ORDER BY seq LIMIT $3)
    UNION ALL
    (SELECT run_id, seq, at, 'log', NULL, block_id, map_index, attempt, NULL, NULL, 'null', level, message, fields
     FROM logs WHERE run_id = w.run_id AND seq > w.after ORDER BY seq LIMIT $3)
    ORDER BY seq
    LIMIT $3
) c
ORDER BY c.run_id, c.seq

-- name: heads
-- How far these runs are, and whether they have ended.
SELECT id, seq, finished_at IS NOT NULL AS has_ended FROM runs WHERE id = ANY ($1::uuid[])

-- name: horizon
-- Transactions below this one have all ended: what they wrote is all there is.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text

-- name: tail -> TailedChange
-- What many runs did and which events came, in the order of their transactions, after a cursor and below the horizon. Of an
-- event the id and its verdict stand where those of a run do, and what else is told of it is in `fields`.
SELECT c.run_id, c.seq, c.at, c.kind, c.state, c.block_id, c.map_index, c.attempt, c.row_count, c.duration_ms, c.error, c.level,
       c.message, c.fields, c.xid::text AS xid, coalesce(r.pipeline_id, s.pipeline_id) AS pipeline_id,
       coalesce(c.schedule_id, r.schedule_id) AS schedule_id
FROM (
    (SELECT run_id, seq, at, kind, state, block_id, map_index, attempt, row_count, duration_ms, coalesce(error, 'null') AS error,
            NULL::text AS level, NULL::text AS message, 'null'::json AS fields, xid, NULL::uuid AS schedule_id
     FROM changes
     WHERE xid >= $1::text::xid8 AND xid < $4::text::xid8 AND (xid, run_id, seq) > ($1::text::xid8, $2::uuid, $3::integer)
     ORDER BY xid, run_id, seq
     LIMIT $5)
    UNION ALL
    (SELECT run_id, seq, at, 'log', NULL, block_id, map_index, attempt, NULL, NULL, 'null', level, message, fields, xid, NULL
     FROM logs
     WHERE $6 AND xid >= $1::text::xid8 AND xid < $4::text::xid8
       AND (xid, run_id, seq) > ($1::text::xid8, $2::uuid, $3::integer)
     ORDER BY xid, run_id, seq
     LIMIT $5)
    UNION ALL
    (SELECT id, 0, received_at, 'event', verdict, NULL, NULL, 0, NULL, NULL, 'null', NULL, NULL,
            json_build_object('source', source, 'reason_code', reason_code, 'reason', reason, 'event_type', event_type,
                              'dedupe_key', dedupe_key, 'size', size),
            xid, schedule_id
     FROM events
     WHERE xid >= $1::text::xid8 AND xid < $4::text::xid8 AND (xid, id, 0) > ($1::text::xid8, $2::uuid, $3::integer)
     ORDER BY xid, id
     LIMIT $5)
    ORDER BY xid, run_id, seq
    LIMIT $5
) c
LEFT JOIN runs r ON r.id = c.run_id
LEFT JOIN schedules s ON s.id = c.schedule_id
WHERE coalesce(r.pipeline_id, s.pipeline_id) IS NOT NULL  -- or it was purged meanwhile
ORDER BY c.xid, c.run_id, c.seq

-- name: attempts -> BlockAttempt
-- The attempts of one block run after a cursor. `pending` is how an attempt ends that another one follows; an attempt that
-- never ended, though another one followed or the run is over, was interrupted with its runner.
SELECT a.attempt, CASE WHEN a.was_interrupted OR a.state = 'pending' THEN 'failed' ELSE a.state END AS state, a.started_at,
       a.finished_at, a.row_count, a.queue_ms, a.duration_ms,
       CASE WHEN a.was_interrupted THEN json_build_object(
                'type', 'Interrupted', 'message', 'its runner died or drained while it was executed')
            ELSE coalesce(a.error, 'null') END AS error
FROM (
    SELECT c.attempt, (array_agg(c.state ORDER BY c.seq DESC))[1] AS state, min(c.at) AS started_at,
           max(c.at) FILTER (WHERE c.state <> 'running') AS finished_at, max(c.row_count) AS row_count,
           max(c.queue_ms) AS queue_ms, max(c.duration_ms) AS duration_ms,
           (array_agg(c.error ORDER BY c.seq DESC))[1] AS error,
           bool_and(c.state = 'running')
               AND (c.attempt < max(c.attempt) OVER () OR bool_and(r.finished_at IS NOT NULL)) AS was_interrupted
    FROM changes c
    JOIN runs r ON r.id = c.run_id
    WHERE c.run_id = $1 AND c.kind = 'block' AND c.block_id = $2 AND c.map_index IS NOT DISTINCT FROM $3::integer
      AND c.attempt > 0
    GROUP BY c.attempt
) a
WHERE a.attempt > $4
ORDER BY a.attempt
LIMIT $5
