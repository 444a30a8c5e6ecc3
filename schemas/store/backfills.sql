-- name: create
-- A backfill with all its runs, in one commit; nothing when this key was used for the pipeline before. The variables, whose
-- text the gateway wrote, may hold what jsonb does not: the date of each run ($13 is its name) is put behind the others.
WITH backfill AS (
    INSERT INTO backfills (id, pipeline_id, schedule_id, key, start_at, end_at, every, timezone, variables,
                           max_active_runs, total)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, cardinality($11::uuid[]))
    ON CONFLICT (pipeline_id, key) DO NOTHING
    RETURNING id, pipeline_id, schedule_id, variables, timezone
), run AS (
    INSERT INTO runs (id, pipeline_id, schedule_id, variables, logical_date, origin, backfill_id, queue)
    SELECT t.run_id, b.pipeline_id, b.schedule_id,
           CASE WHEN $13::text IS NULL THEN b.variables
                ELSE format('%s%s:"%s"}', CASE b.variables::text WHEN '{}' THEN '{' ELSE left(b.variables::text, -1) || ',' END,
                            to_json($13::text), to_char(t.logical_date AT TIME ZONE b.timezone, 'YYYY-MM-DD'))::json END,
           t.logical_date, 'backfill', b.id, p.queue
    FROM backfill b
    JOIN pipelines p ON p.id = b.pipeline_id
    CROSS JOIN unnest($11::uuid[], $12::timestamptz[]) AS t (run_id, logical_date)
    RETURNING id
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, 1, 'run', 'queued', 0 FROM run
)
SELECT id FROM backfill

-- name: by_key
SELECT id FROM backfills WHERE pipeline_id = $1 AND key = $2

-- name: run_ids
SELECT id FROM runs WHERE backfill_id = $1 ORDER BY logical_date, id

-- name: numbers
SELECT id, number FROM backfills WHERE id = ANY ($1::uuid[])

-- name: get -> Backfill
-- By id or by number, with its progress.
SELECT * FROM backfills_now WHERE id = $1::uuid OR number = $2::bigint

-- name: page -> Backfill
-- The newest backfills before a cursor, with their progress.
SELECT * FROM backfills_now
WHERE ($1::uuid IS NULL OR id < $1) AND ($2::text IS NULL OR pipeline_id = $2) AND ($3::text IS NULL OR state = $3)
ORDER BY id DESC
LIMIT $4

-- name: span -> Backfill
-- A part of the backfills of a pipeline, the newest first or ($4) the oldest, with their progress.
SELECT * FROM backfills_now
WHERE $1::text IS NULL OR pipeline_id = $1
ORDER BY CASE WHEN $4::boolean THEN id END, id DESC
OFFSET $2
LIMIT $3

-- name: count
-- How many a pipeline has; more than $2 are not counted.
SELECT count(*) FROM (SELECT 1 FROM backfills WHERE $1::text IS NULL OR pipeline_id = $1 LIMIT $2) found

-- name: exists
SELECT id FROM backfills WHERE id = $1::uuid OR number = $2::bigint

-- name: set_paused
UPDATE backfills SET is_paused = $2 WHERE id = $1 AND cancelled_at IS NULL RETURNING id

-- name: set_limit
UPDATE backfills SET max_active_runs = $2 WHERE id = $1 AND cancelled_at IS NULL RETURNING id

-- name: waiting
-- The runs that come next, as many as may execute at the same time.
SELECT r.id, r.dispatch, r.queue
FROM (SELECT id, max_active_runs FROM backfills WHERE id = $1) b
CROSS JOIN LATERAL (
    SELECT id, dispatch, queue FROM runs
    WHERE backfill_id = b.id AND state = 'queued' ORDER BY id LIMIT b.max_active_runs
) r

-- name: cancel
-- End a backfill, unless all its runs have ended: nothing of it begins any more.
UPDATE backfills b SET cancelled_at = clock_timestamp()
WHERE b.id = $1 AND b.cancelled_at IS NULL
  AND EXISTS (SELECT 1 FROM runs WHERE backfill_id = b.id AND state IN ('queued', 'running'))
RETURNING b.id

-- name: active
-- Its runs that have not ended.
SELECT id FROM runs WHERE backfill_id = $1 AND state IN ('queued', 'running')
