-- name: publish
-- Put what the runner read from a file in force; an unchanged definition writes nothing.
-- What a user set instead of the file's limit stays until the file's own word changes.
INSERT INTO pipelines AS p (id, version, file, doc, graph, params_schema, max_active_runs, declared_max_active_runs, queue,
                            run_timeout_s)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9)
ON CONFLICT (id) DO UPDATE SET
    version = excluded.version, file = excluded.file, doc = excluded.doc, graph = excluded.graph,
    params_schema = excluded.params_schema,
    max_active_runs = CASE WHEN p.declared_max_active_runs IS DISTINCT FROM excluded.declared_max_active_runs
                           THEN excluded.max_active_runs ELSE p.max_active_runs END,
    declared_max_active_runs = excluded.declared_max_active_runs,
    queue = excluded.queue, run_timeout_s = excluded.run_timeout_s, error = NULL, updated_at = now()
WHERE p.version IS DISTINCT FROM excluded.version OR p.file <> excluded.file OR p.error IS NOT NULL

-- name: publish_version
-- Remember a version for as long as runs of it are looked at.
INSERT INTO pipeline_versions (pipeline_id, version, graph, params_schema)
VALUES ($1, $2, $3, $4)
ON CONFLICT (pipeline_id, version) DO NOTHING

-- name: mark_file_broken
-- What a broken or missing file defined before keeps its last good version, and says what is wrong with the new one.
UPDATE pipelines SET error = $2, updated_at = now()
WHERE file = $1 AND graph IS NOT NULL AND error IS DISTINCT FROM $2
RETURNING id

-- name: has_good_version
SELECT EXISTS (SELECT 1 FROM pipelines WHERE file = $1 AND graph IS NOT NULL)

-- name: publish_broken
-- A file that has never been readable is listed under the name that it would have.
INSERT INTO pipelines AS p (id, file, error)
VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET error = excluded.error, updated_at = now()
WHERE p.error IS DISTINCT FROM excluded.error

-- name: forget_broken
-- Entries that only ever held an error go when their file is repaired or gone.
DELETE FROM pipelines WHERE file = $1 AND graph IS NULL AND NOT id = ANY ($2::text[])

-- name: first_of -> Pipeline
-- The first of these ids that exists.
SELECT id, name, description, version, doc, graph, params_schema, max_active_runs, queue, run_timeout_s, notify,
       is_paused, on_paused, file, error, created_at, updated_at
FROM pipelines
WHERE id = ANY ($1::text[])
ORDER BY array_position($1::text[], id)
LIMIT 1

-- name: page -> Pipeline
-- Pipelines by id, or ($8) backwards, after a cursor or after so many.
SELECT id, name, description, version, doc, graph, params_schema, max_active_runs, queue, run_timeout_s, notify,
       is_paused, on_paused, file, error, created_at, updated_at
FROM pipelines
WHERE ($1::text IS NULL OR id > $1)
  AND ($2::text IS NULL OR strpos(lower(id), lower($2)) > 0)
  AND ($5::text IS NULL OR id ILIKE $5)
  AND ($6::boolean IS NULL OR is_paused = $6)
  AND ($7::boolean IS NULL OR (error IS NOT NULL) = $7)
ORDER BY CASE WHEN $8::boolean THEN id END DESC, id
OFFSET $3
LIMIT $4

-- name: count
-- How many there are of those; more than $2 are not counted.
SELECT count(*) FROM (
    SELECT 1 FROM pipelines
    WHERE ($1::text IS NULL OR strpos(lower(id), lower($1)) > 0)
      AND ($3::text IS NULL OR id ILIKE $3)
      AND ($4::boolean IS NULL OR is_paused = $4)
      AND ($5::boolean IS NULL OR (error IS NOT NULL) = $5)
    LIMIT $2
) found

-- name: lock
-- Two changes that come together are made one after the other: neither writes back what it read before the other.
SELECT id FROM pipelines WHERE id = $1 FOR NO KEY UPDATE

-- name: update -> Pipeline
UPDATE pipelines SET is_paused = $2, on_paused = $3, max_active_runs = $4, notify = $5, name = $6, description = $7,
                     updated_at = now()
WHERE id = $1
RETURNING id, name, description, version, doc, graph, params_schema, max_active_runs, queue, run_timeout_s, notify,
          is_paused, on_paused, file, error, created_at, updated_at

-- name: graph_of_version
SELECT coalesce(v.graph, p.graph)
FROM pipelines p
LEFT JOIN pipeline_versions v ON v.pipeline_id = p.id AND v.version = $2
WHERE p.id = $1
