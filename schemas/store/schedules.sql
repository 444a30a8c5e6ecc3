-- name: create
INSERT INTO schedules (id, pipeline_id, kind, variables, name, source, source_config, filter, mapping, dedupe, split,
                       is_paused, on_paused, max_active_runs, body_limit, cron, every_s, timezone, start_at, end_at,
                       catchup, jitter_s, overlap, sla_s, run_timeout_s, max_queue_age_s, notify)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
        $26, $27)
RETURNING id

-- name: get -> Schedule
-- By id or by number.
SELECT *
FROM schedules_now
WHERE id = $1::uuid OR number = $2::bigint

-- name: page -> Schedule
-- The newest schedules before a cursor.
SELECT *
FROM schedules_now
WHERE ($1::uuid IS NULL OR id < $1)
  AND ($2::text IS NULL OR pipeline_id = $2)
  AND ($3::text IS NULL OR source = $3)
  AND ($4::text IS NULL OR strpos(lower(name), lower($4)) > 0)
ORDER BY id DESC
LIMIT $5

-- name: span -> Schedule
-- A part of the schedules, the newest first.
SELECT *
FROM schedules_now
WHERE ($1::text IS NULL OR pipeline_id = $1)
  AND ($2::text[] IS NULL OR kind = ANY ($2))
  AND ($3::boolean IS NULL OR is_paused = $3)
ORDER BY id DESC
OFFSET $4 LIMIT $5

-- name: span_count
SELECT count(*)
FROM (SELECT 1
      FROM schedules_now
      WHERE ($1::text IS NULL OR pipeline_id = $1)
        AND ($2::text[] IS NULL OR kind = ANY ($2))
        AND ($3::boolean IS NULL OR is_paused = $3)
      LIMIT $4) AS counted

-- name: names -> ScheduleName
SELECT id, number, name, kind FROM schedules WHERE id = ANY ($1::uuid[])

-- name: timed_of_pipelines -> Schedule
-- The oldest schedule of kind time of each of these pipelines: what other products call the schedule of a pipeline.
SELECT DISTINCT ON (pipeline_id) *
FROM schedules_now
WHERE kind = 'time' AND pipeline_id = ANY ($1::text[])
ORDER BY pipeline_id, id

-- name: lock
-- Two changes that come together are made one after the other: neither writes back what it read before the other.
SELECT id FROM schedules WHERE id = $1::uuid OR number = $2::bigint FOR NO KEY UPDATE

-- name: update
UPDATE schedules SET variables = $2, name = $3, source = $4, source_config = $5, filter = $6, mapping = $7,
                     dedupe = $8, split = $9, is_paused = $10, on_paused = $11, max_active_runs = $12,
                     body_limit = $13, cron = $14, every_s = $15, timezone = $16, start_at = $17, end_at = $18,
                     catchup = $19, jitter_s = $20, overlap = $21, sla_s = $22, run_timeout_s = $23,
                     max_queue_age_s = $24, notify = $25, updated_at = now()
WHERE id = $1 AND deleted_at IS NULL
RETURNING id

-- name: delete
-- Only marked, because events and runs go on pointing at it; its clock ends.
WITH ended AS (
    UPDATE clocks SET next_slot = NULL, due_at = NULL WHERE schedule_id = $1
)
UPDATE schedules SET deleted_at = now(), updated_at = now() WHERE id = $1 AND deleted_at IS NULL RETURNING id

-- name: gates -> Gate
-- What judging a delivery to these schedules takes, without a token.
SELECT ''::bytea AS hash, s.id AS token_id, NULL::timestamptz AS expires_at, s.id AS schedule_id, s.number, s.pipeline_id,
       s.source, s.source_config, s.variables, s.body_limit, s.is_paused OR p.is_paused AS is_paused, s.on_paused,
       s.filter, s.mapping, s.dedupe, s.split, s.rules_id, p.params_schema, p.queue
FROM schedules s
JOIN pipelines p ON p.id = s.pipeline_id
WHERE s.deleted_at IS NULL AND s.id = ANY ($1::uuid[])
