-- name: starters -> Starter
SELECT id, name, pipeline_id FROM schedules WHERE deleted_at IS NULL ORDER BY id DESC LIMIT $1

-- name: graphs
SELECT id, graph FROM pipelines ORDER BY id LIMIT $1

-- name: triggers
-- Which pipeline's runs triggered runs of which other, by the newest of them.
SELECT DISTINCT cause.pipeline_id AS source, made.pipeline_id AS target
FROM (
    SELECT pipeline_id, parent_id FROM runs
    WHERE origin <> 'event' AND origin = 'run' AND id >= $1
    ORDER BY id DESC
    LIMIT $2
) made
JOIN runs cause ON cause.id = made.parent_id

-- name: ancestors -> RelatedRun
-- The run, and the runs that it came from, one after the other.
WITH RECURSIVE line AS (
    SELECT r.*, 1 AS depth FROM runs r WHERE r.id = $1
    UNION ALL
    SELECT r.*, line.depth + 1 FROM line JOIN runs r ON r.id = line.parent_id WHERE line.depth < $2
)
SELECT id, number, pipeline_id, state, origin, parent_id, event_id, created_at FROM line ORDER BY depth LIMIT $2

-- name: children -> RelatedRun
-- The runs that these triggered, or that resume or repeat them.
SELECT id, number, pipeline_id, state, origin, parent_id, event_id, created_at
FROM runs
WHERE parent_id = ANY ($1::uuid[])
ORDER BY id
LIMIT $2
