-- name: ask
INSERT INTO dry_runs (id, pipeline_id, variables, event_variables, most_rows, expires_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6 * interval '1 second')

-- name: take -> DryRequest
-- The oldest one that nobody executes, of a pipeline that this runner has; what a dead runner had taken is taken once more.
UPDATE dry_runs d SET taken_by = $1, attempts = d.attempts + 1
WHERE d.id = (
    SELECT w.id
    FROM dry_runs w
    WHERE w.result IS NULL AND w.expires_at > clock_timestamp() AND w.pipeline_id = ANY ($2::text[]) AND w.attempts < $3
      AND NOT EXISTS (SELECT 1 FROM runners n WHERE n.id = w.taken_by AND n.lease_expires_at > clock_timestamp())
    ORDER BY w.id
    LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING d.id, d.pipeline_id, d.variables, d.event_variables, d.most_rows,
          extract(epoch FROM d.expires_at - clock_timestamp())::float8 AS time_left_s

-- name: is_wanted
-- Whether somebody still waits for the answer, and from this runner.
SELECT EXISTS (SELECT 1 FROM dry_runs WHERE id = $1 AND taken_by = $2 AND expires_at > clock_timestamp())

-- name: answer
UPDATE dry_runs SET result = $3 WHERE id = $1 AND taken_by = $2 AND result IS NULL

-- name: progress -> DryProgress
SELECT coalesce(d.result, 'null') AS result, d.taken_by IS NOT NULL AS is_taken,
       d.result IS NULL AND d.attempts >= $2
           AND NOT EXISTS (SELECT 1 FROM runners n WHERE n.id = d.taken_by AND n.lease_expires_at > clock_timestamp())
           AS is_lost
FROM dry_runs d
WHERE d.id = $1

-- name: forget
-- Also those whose gateway died before it could.
DELETE FROM dry_runs WHERE id = $1 OR expires_at < clock_timestamp() - interval '1 minute'
