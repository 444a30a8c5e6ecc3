-- name: create
INSERT INTO replays (id, requested_by, event_id, filter, mode, schedule_id, rate_per_s, most_events, expected)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: exists
SELECT id FROM replays WHERE id = $1::uuid OR number = $2::bigint

-- name: get -> Replay
SELECT * FROM replays_now WHERE id = $1::uuid OR number = $2::bigint

-- name: page -> Replay
SELECT * FROM replays_now
WHERE ($1::uuid IS NULL OR id < $1) AND ($2::text IS NULL OR state = $2)
ORDER BY id DESC
LIMIT $3

-- name: cancel
UPDATE replays SET state = 'cancelled', finished_at = clock_timestamp() WHERE id = $1 AND state = 'running' RETURNING id

-- name: take -> ReplayStep
-- The replay whose next step is due, for so many seconds: whoever dies lets go of it by and by, and what a slow one writes
-- later is refused, for the cursor has moved.
WITH due AS (
    SELECT id, due_at FROM replays
    WHERE state = 'running' AND due_at <= clock_timestamp()
    ORDER BY due_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE replays r SET due_at = clock_timestamp() + $1 * interval '1 second'
FROM due
WHERE r.id = due.id
RETURNING r.id, r.filter, r.mode, r.schedule_id, r.rate_per_s,
          r.most_events - (r.accepted + r.filtered + r.rejected + r.handshake + r.skipped) AS left, r.cursor_id,
          extract(epoch FROM clock_timestamp() - due.due_at)::float8 AS lag_s

-- name: next_due
-- In how many seconds the next step of any replay is due.
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM replays WHERE state = 'running'

-- name: advance
-- Move a replay on from where it was taken up; nothing happens when somebody else did or it was cancelled.
UPDATE replays SET
    cursor_id = $3,
    accepted = accepted + $4, filtered = filtered + $5, rejected = rejected + $6, handshake = handshake + $7,
    skipped = skipped + $8, runs = runs + $9,
    due_at = clock_timestamp() + $10 * interval '1 second',
    state = CASE WHEN $11 THEN 'completed' ELSE state END,
    finished_at = CASE WHEN $11 THEN clock_timestamp() END
WHERE id = $1 AND cursor_id = $2 AND state = 'running'
RETURNING id

-- name: add_runs
-- Write the runs of a step; one that is there already stays the only one.
WITH new_runs AS (
    INSERT INTO runs (id, pipeline_id, schedule_id, event_id, item, event_item, variables, origin, parent_id, replay_id, queue)
    SELECT run_id, pipeline_id, schedule_id, event_id, item, event_item, variables, 'replay', parent_id, $1, queue
    FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::integer[], $8::json[], $9::bytea[], $10::uuid[])
        WITH ORDINALITY
        AS t (run_id, event_id, schedule_id, pipeline_id, queue, item, variables, event_item, parent_id, position)
    ORDER BY position
    ON CONFLICT (event_id, replay_id, item) WHERE replay_id IS NOT NULL DO NOTHING
    RETURNING id, number
), new_changes AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, 1, 'run', 'queued', 0 FROM new_runs
)
SELECT id, number FROM new_runs ORDER BY number

-- name: old_runs -> OldRun
-- The runs that an event caused when it came.
SELECT id, number, item, pipeline_id, variables, event_item FROM runs WHERE event_id = $1 AND origin = 'event' ORDER BY item
