-- name: take -> DueCallback
-- The callbacks that are due become this runner's for some seconds; should it die, they are due again. $3 are hosts that
-- have enough to do.
WITH due AS (
    SELECT id FROM callbacks
    WHERE state = 'pending' AND next_attempt_at <= clock_timestamp() AND host <> ALL ($3::text[])
    ORDER BY next_attempt_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
UPDATE callbacks c SET attempts = c.attempts + 1, next_attempt_at = clock_timestamp() + $2 * interval '1 second'
FROM due
WHERE c.id = due.id
RETURNING c.id, c.run_id, c.kind, c.reason, c.target, c.host, c.attempts AS attempt, c.failures

-- name: delivered
-- The attempt $2 succeeded; $4 is how many attempts are remembered.
UPDATE callbacks SET
    state = 'delivered', delivered_at = clock_timestamp(), next_attempt_at = NULL,
    history = jsonb_path_query_array(history || $3::jsonb, ('$[last - ' || $4::integer - 1 || ' to last]')::jsonpath)
WHERE id = $1 AND attempts = $2 AND state = 'pending'

-- name: not_delivered
-- The attempt $2 failed; without the seconds $5 there is no other.
UPDATE callbacks SET
    state = CASE WHEN $5::float8 IS NULL THEN 'failed' ELSE 'pending' END,
    next_attempt_at = clock_timestamp() + $5::float8 * interval '1 second', failures = failures + 1,
    history = jsonb_path_query_array(history || $3::jsonb, ('$[last - ' || $4::integer - 1 || ' to last]')::jsonpath)
WHERE id = $1 AND attempts = $2 AND state = 'pending'

-- name: resend
-- Now, and as if it had never failed.
UPDATE callbacks SET state = 'pending', next_attempt_at = clock_timestamp(), delivered_at = NULL, failures = 0
WHERE id = $1
RETURNING id

-- name: get -> ToldCallback
SELECT id, run_id, kind, reason, target, state, attempts, next_attempt_at, delivered_at, created_at,
       history -> -1 AS last_attempt, history
FROM callbacks
WHERE id = $1

-- name: page -> Callback
-- The newest callbacks before a cursor.
SELECT id, run_id, kind, reason, target, state, attempts, next_attempt_at, delivered_at, created_at,
       history -> -1 AS last_attempt
FROM callbacks
WHERE ($1::uuid IS NULL OR id < $1) AND ($2::uuid IS NULL OR run_id = $2) AND ($3::text IS NULL OR state = $3)
ORDER BY id DESC
LIMIT $4
