-- name: queue -> Queue
SELECT (SELECT count(*) FROM runs WHERE state = 'queued') AS queued,
       (SELECT count(*) FROM runs WHERE state = 'running') AS running,
       (SELECT created_at FROM runs WHERE state = 'queued' ORDER BY id LIMIT 1) AS oldest_queued_at

-- name: last_failures -> Failure
SELECT id, number, pipeline_id, created_at, finished_at, error
FROM runs
WHERE state = 'failed'
ORDER BY id DESC
LIMIT $1

-- name: rejected
-- How many deliveries were rejected since the moment of an id; more than $2 are not counted.
SELECT count(*)
FROM (SELECT 1 FROM events WHERE verdict <> 'accepted' AND verdict = 'rejected' AND id >= $1 LIMIT $2) AS rejected

-- name: next_fires -> NextFire
-- The time schedules that fire next.
SELECT s.id AS schedule_id, s.name, s.pipeline_id, c.next_slot AS slot, c.due_at, s.is_paused OR p.is_paused AS is_paused
FROM clocks c
JOIN schedules s ON s.id = c.schedule_id AND s.deleted_at IS NULL
JOIN pipelines p ON p.id = s.pipeline_id
WHERE c.due_at IS NOT NULL
ORDER BY c.due_at
LIMIT $1

-- name: sizes -> TableSize
-- How large the tables are that grow, each with its indexes and partitions.
SELECT top.name, sum(greatest(part.reltuples, 0))::bigint AS rows, sum(pg_total_relation_size(part.oid))::bigint AS bytes
FROM unnest(ARRAY['events', 'event_keys', 'runs', 'block_runs', 'block_outputs', 'changes', 'logs']) AS top (name)
CROSS JOIN LATERAL (
    SELECT top.name::regclass AS oid
    UNION ALL
    SELECT inhrelid FROM pg_inherits WHERE inhparent = top.name::regclass
) AS tree
JOIN pg_class part ON part.oid = tree.oid AND part.relkind = 'r'
GROUP BY top.name
ORDER BY top.name

-- name: database
SELECT pg_database_size(current_database()) AS bytes, (SELECT count(*) FROM pipelines) AS pipelines

-- name: runners -> RunnerState
SELECT n.id, n.name, n.started_at, extract(epoch FROM clock_timestamp() - n.heartbeat_at)::float8 AS heartbeat_age_s,
       n.lease_expires_at > clock_timestamp() AS is_alive,
       (SELECT count(*) FROM runs r WHERE r.state = 'running' AND r.lease_owner = n.id) AS active_runs
FROM runners n
ORDER BY n.started_at, n.id
