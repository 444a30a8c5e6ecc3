-- name: ingest
-- Write many deliveries in one commit: who comes first with a dedupe key wins, fresh deliveries become an event, and a run
-- where one is wanted. Its own ids make a second try after an ambiguous commit harmless.
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::json[], $11::bytea[], $12::uuid[], $13::text[], $14::json[], $15::text[]
    ) WITH ORDINALITY AS t (
        event_id, schedule_id, source, verdict, reason, event_type, dedupe_key, content_type, kind,
        headers, body, run_id, pipeline_id, variables, queue, position
    )
), won AS (
    INSERT INTO event_keys (schedule_id, dedupe_key, event_id, deliveries)
    SELECT schedule_id, dedupe_key, (array_agg(event_id ORDER BY position))[1], count(*)
    FROM input
    WHERE dedupe_key IS NOT NULL
    GROUP BY schedule_id, dedupe_key
    ORDER BY schedule_id, dedupe_key
    ON CONFLICT (schedule_id, dedupe_key) DO UPDATE SET
        deliveries = event_keys.deliveries
            + CASE WHEN event_keys.event_id = excluded.event_id THEN 0 ELSE excluded.deliveries END,
        last_delivery_at = clock_timestamp()
    RETURNING schedule_id, dedupe_key, event_id
), fresh AS MATERIALIZED (
    SELECT input.*
    FROM input
    LEFT JOIN won USING (schedule_id, dedupe_key)
    WHERE input.dedupe_key IS NULL OR won.event_id = input.event_id
), new_events AS (
    INSERT INTO events (id, schedule_id, source, verdict, reason, event_type, dedupe_key, content_type, kind, headers, body)
    SELECT event_id, schedule_id, source, verdict, reason, event_type, dedupe_key, content_type, kind, headers, body
    FROM fresh
    ON CONFLICT (id) DO NOTHING
), new_runs AS (
    INSERT INTO runs (id, pipeline_id, schedule_id, event_id, variables, origin, queue)
    SELECT run_id, pipeline_id, schedule_id, event_id, variables, 'event', queue
    FROM fresh
    WHERE run_id IS NOT NULL
    ORDER BY position
    ON CONFLICT (id) DO NOTHING
    RETURNING id, number
), new_changes AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, 1, 'run', 'queued', 0
    FROM new_runs
)
SELECT coalesce(won.event_id, input.event_id) AS event_id,
       won.event_id IS DISTINCT FROM input.event_id AND won.event_id IS NOT NULL AS is_duplicate,
       new_runs.number
FROM input
LEFT JOIN won USING (schedule_id, dedupe_key)
LEFT JOIN new_runs ON new_runs.id = input.run_id
ORDER BY input.position

-- name: get -> Event
-- One event without its body.
SELECT e.id, e.schedule_id, e.source, e.verdict, e.reason, e.event_type, e.dedupe_key, e.content_type, e.kind,
       length(e.body) AS size, coalesce(k.deliveries, 1) AS deliveries, e.headers, e.received_at
FROM events e
LEFT JOIN event_keys k ON k.schedule_id = e.schedule_id AND k.dedupe_key = e.dedupe_key
WHERE e.id = $1

-- name: find
-- The newest events that match, and how far was looked; see `find` of runs.
SELECT id, is_match, position = $4 AS is_last
FROM (
    SELECT c.id, row_number() OVER (ORDER BY c.id DESC) AS position,
           ($6::uuid IS NULL OR c.schedule_id = $6)
           AND ($7::text IS NULL OR c.verdict = $7)
           AND ($8::text IS NULL OR c.source = $8) AS is_match
    FROM (
        (SELECT id, schedule_id, verdict, source FROM events
         WHERE $1 = 'newest' AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT id, schedule_id, verdict, source FROM events
         WHERE $1 = 'schedule' AND schedule_id = $6 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT id, schedule_id, verdict, source FROM events
         WHERE $1 = 'not accepted' AND verdict <> 'accepted' AND verdict = $7 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
    ) c
) looked_at
WHERE is_match OR position = $4
ORDER BY id DESC
LIMIT $5

-- name: rows -> Event
-- These events, the newest first, without their bodies; $2 and $3 are the first and the last id, for the partitions' sake.
SELECT e.id, e.schedule_id, e.source, e.verdict, e.reason, e.event_type, e.dedupe_key, e.content_type, e.kind,
       length(e.body) AS size, coalesce(k.deliveries, 1) AS deliveries, e.headers, e.received_at
FROM events e
LEFT JOIN event_keys k ON k.schedule_id = e.schedule_id AND k.dedupe_key = e.dedupe_key
WHERE e.id = ANY ($1::uuid[]) AND e.id >= $2 AND e.id <= $3
ORDER BY e.id DESC

-- name: body -> EventBody
-- The bytes of one event, as they came.
SELECT content_type, body FROM events WHERE id = $1
