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
-- What many runs did, in the order of their transactions, after a cursor and below the horizon.
SELECT c.run_id, c.seq, c.at, c.kind, c.state, c.block_id, c.map_index, c.attempt, c.row_count, c.duration_ms, c.error, c.level,
       c.message, c.fields, c.xid::text AS xid, r.pipeline_id, r.schedule_id
FROM (
    (SELECT run_id, seq, at, kind, state, block_id, map_index, attempt, row_count, duration_ms, coalesce(error, 'null') AS error,
            NULL::text AS level, NULL::text AS message, 'null'::json AS fields, xid
     FROM changes
     WHERE xid >= $1::text::xid8 AND xid < $4::text::xid8 AND (xid, run_id, seq) > ($1::text::xid8, $2::uuid, $3::integer)
     ORDER BY xid, run_id, seq
     LIMIT $5)
    UNION ALL
    (SELECT run_id, seq, at, 'log', NULL, block_id, map_index, attempt, NULL, NULL, 'null', level, message, fields, xid
     FROM logs
     WHERE $6 AND xid >= $1::text::xid8 AND xid < $4::text::xid8
       AND (xid, run_id, seq) > ($1::text::xid8, $2::uuid, $3::integer)
     ORDER BY xid, run_id, seq
     LIMIT $5)
    ORDER BY xid, run_id, seq
    LIMIT $5
) c
JOIN runs r ON r.id = c.run_id
ORDER BY c.xid, c.run_id, c.seq
