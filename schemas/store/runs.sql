-- name: create
-- A run that a caller or another run asked for by name; its key is unique per pipeline and, with $9, so is its date.
WITH run AS (
    INSERT INTO runs (id, pipeline_id, variables, logical_date, run_key, note, origin, parent_id, queue, callback_url)
    SELECT $1, p.id, $3::json, $4::timestamptz, $5::text, $6::text,
           CASE WHEN $7::uuid IS NULL THEN 'api' ELSE 'run' END, $7, p.queue, $8::text
    FROM pipelines p
    WHERE p.id = $2
      AND NOT ($9::boolean AND EXISTS (SELECT 1 FROM runs o WHERE o.pipeline_id = p.id AND o.logical_date = $4))
    ON CONFLICT (pipeline_id, run_key) WHERE run_key IS NOT NULL DO NOTHING
    RETURNING id
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, 1, 'run', 'queued', 0 FROM run
)
SELECT id FROM run

-- name: lock_date
-- Calls for one date come one after the other, so that the second sees what the first wrote.
SELECT pg_advisory_xact_lock(hashtextextended($1::text || extract(epoch FROM $2::timestamptz)::text, 0))

-- name: by_key
SELECT id FROM runs WHERE pipeline_id = $1 AND run_key = $2

-- name: by_date
SELECT id FROM runs WHERE pipeline_id = $1 AND logical_date = $2 ORDER BY id LIMIT 1

-- name: find_in_pipeline
-- What callers name a run by within its pipeline: its key, or its id or number; a key counts before an id that looks like it.
SELECT id
FROM runs
WHERE pipeline_id = $1 AND (run_key = $2 OR id = $3::uuid OR number = $4::bigint)
ORDER BY run_key = $2 DESC NULLS LAST
LIMIT 1

-- name: newest_named
-- The newest of those that repeat the run which is named so within its pipeline, or that run itself.
SELECT coalesce((SELECT r.id FROM runs r WHERE r.first_id = named.first_id ORDER BY r.id DESC LIMIT 1), named.first_id)
FROM (
    SELECT coalesce(first_id, id) AS first_id
    FROM runs
    WHERE pipeline_id = $1 AND (run_key = $2 OR id = $3::uuid OR first_id = $3::uuid OR number = $4::bigint)
    ORDER BY run_key = $2 DESC NULLS LAST
    LIMIT 1
) named

-- name: names -> RunName
-- What each of these runs is known by: the key or else the id of the first of those that it repeats.
SELECT r.id, coalesce(r.first_id, r.id) AS first_id, coalesce(f.run_key, coalesce(r.first_id, r.id)::text) AS name,
       coalesce(f.origin, r.origin) AS origin
FROM runs r
LEFT JOIN runs f ON f.id = coalesce(r.first_id, r.id)
WHERE r.id = ANY ($1::uuid[])

-- name: newest_of_pipelines
SELECT r.id
FROM unnest($1::text[]) AS wanted (pipeline_id)
CROSS JOIN LATERAL (SELECT id FROM runs WHERE pipeline_id = wanted.pipeline_id ORDER BY id DESC LIMIT 1) r

-- name: states_of_dates
-- The newest run of each of these dates.
SELECT DISTINCT ON (logical_date) logical_date, state
FROM runs
WHERE pipeline_id = $1 AND logical_date = ANY ($2::timestamptz[])
ORDER BY logical_date, id DESC

-- name: find
-- The newest runs that match, and how far was looked: the candidates come from the index that $1 names, at most $4 of them,
-- and the last of those is returned even when it does not match. `$1 = ...` is decided before a branch is begun, so that
-- each filter has its index in one plan for all.
SELECT id, is_match, position = $4 AS is_last
FROM (
    SELECT c.id, row_number() OVER (ORDER BY c.id DESC) AS position,
           ($6::text IS NULL OR c.pipeline_id = $6)
           AND ($7::uuid IS NULL OR c.schedule_id = $7)
           AND ($8::uuid IS NULL OR c.event_id = $8)
           AND ($9::text IS NULL OR c.state = $9)
           AND ($10::text IS NULL OR c.origin = $10)
           AND ($11::uuid IS NULL OR c.parent_id = $11)
           AND ($12::uuid IS NULL OR c.backfill_id = $12)
           AND ($28::uuid IS NULL OR c.replay_id = $28)
           AND ($14::text[] IS NULL OR c.state = ANY ($14))
           AND ($15::text[] IS NULL OR c.pipeline_id = ANY ($15))
           AND ($16::text IS NULL OR c.pipeline_id ILIKE $16)
           AND ($17::timestamptz IS NULL OR c.started_at >= $17)
           AND ($18::timestamptz IS NULL OR c.started_at < $18)
           AND ($19::timestamptz IS NULL OR c.finished_at >= $19)
           AND ($20::timestamptz IS NULL OR c.finished_at < $20)
           AND ($21::timestamptz IS NULL OR c.logical_date >= $21)
           AND ($22::timestamptz IS NULL OR c.logical_date < $22)
           AND ($23::timestamptz IS NULL OR greatest(c.created_at, c.started_at, c.finished_at, c.marked_at) >= $23)
           AND ($24::timestamptz IS NULL OR greatest(c.created_at, c.started_at, c.finished_at, c.marked_at) < $24)
           AND ($29::timestamptz IS NULL OR coalesce(c.logical_date, c.created_at) >= $29)
           AND ($30::timestamptz IS NULL OR coalesce(c.logical_date, c.created_at) < $30)
           AND (NOT $25::boolean OR NOT EXISTS (
               SELECT 1 FROM runs later WHERE later.first_id = coalesce(c.first_id, c.id) AND later.id > c.id))
           AND (num_nonnulls($26::text[], $27::text) = 0 OR (
               SELECT ($26 IS NULL OR f.origin = ANY ($26)) AND ($27 IS NULL OR coalesce(f.run_key, f.id::text) ILIKE $27)
               FROM runs f WHERE f.id = coalesce(c.first_id, c.id)))
           AND ($13::text IS NULL
                OR strpos(lower(c.run_key), lower($13)) > 0
                OR strpos(lower(c.note), lower($13)) > 0
                OR coalesce((SELECT mentions(e.body, $13) FROM events e WHERE e.id = c.event_id), false)) AS is_match
    FROM (
        (SELECT * FROM runs WHERE $1 = 'newest' AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'pipeline' AND pipeline_id = $6 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'schedule' AND schedule_id = $7 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'event' AND event_id = $8 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'parent' AND parent_id = $11 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'backfill' AND backfill_id = $12 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'replay' AND replay_id = $28 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'origin' AND origin <> 'event' AND origin = $10 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'queued' AND state = 'queued' AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'running' AND state = 'running' AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'ended' AND state IN ('failed', 'cancelled') AND state = $9
                              AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM runs WHERE $1 = 'ended of pipeline' AND state IN ('failed', 'cancelled') AND state = $9
                              AND pipeline_id = $6 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
    ) c
) looked_at
WHERE is_match OR position = $4
ORDER BY id DESC
LIMIT $5

-- name: rows -> RunRow
-- The runs with these ids or this number, the newest first; $3 is the largest event body, in bytes, that comes along.
SELECT r.id, r.number, r.pipeline_id, r.version, r.schedule_id, r.event_id, r.state, r.variables, r.logical_date,
       r.run_key, r.note, r.origin, r.parent_id, r.backfill_id, r.replay_id, r.queue, r.passed_sla, r.callback_url,
       r.attempt, r.created_at, r.started_at, r.finished_at, coalesce(r.error, 'null') AS error,
       CASE WHEN r.event_item IS NULL THEN e.kind ELSE 'json' END AS event_kind, e.content_type AS event_content_type,
       coalesce(length(r.event_item), e.size) AS event_size,
       CASE WHEN length(r.event_item) > $3 THEN encode(sha256(r.event_item), 'hex')
            WHEN r.event_item IS NULL AND (e.size > $3 OR e.kind = 'binary' OR e.object IS NOT NULL)
            THEN encode(coalesce(e.sha256, sha256(e.body)), 'hex') END AS event_sha256,
       CASE WHEN r.event_item IS NULL AND (e.size > $3 OR e.object IS NOT NULL) OR length(r.event_item) > $3 THEN NULL
            ELSE coalesce(r.event_item, e.body) END AS event_body
FROM runs r
LEFT JOIN events e ON e.id = r.event_id
WHERE r.id = ANY ($1::uuid[]) OR r.number = $2::bigint
ORDER BY r.id DESC

-- name: of_events
-- The runs that these events caused, for whoever delivered them again.
SELECT event_id, id, number, state
FROM runs
WHERE event_id = ANY ($1::uuid[]) AND origin = 'event'
ORDER BY event_id, item

-- name: cancel
-- Queued runs are cancelled here and now; running ones are asked to end, and their owners end them.
WITH target AS MATERIALIZED (
    SELECT id FROM runs WHERE id = ANY ($1::uuid[]) AND state IN ('queued', 'running') ORDER BY id FOR UPDATE
), asked AS (
    UPDATE runs r SET
        cancel_requested_at = coalesce(r.cancel_requested_at, clock_timestamp()),
        state = CASE r.state WHEN 'queued' THEN 'cancelled' ELSE r.state END,
        finished_at = CASE r.state WHEN 'queued' THEN clock_timestamp() END,
        epoch = r.epoch + CASE r.state WHEN 'queued' THEN 1 ELSE 0 END,
        seq = r.seq + CASE r.state WHEN 'queued' THEN 1 ELSE 0 END
    FROM target
    WHERE r.id = target.id
    RETURNING r.id, r.state, r.seq, r.attempt
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, seq, 'run', state, attempt FROM asked WHERE state = 'cancelled'
)
SELECT id, state FROM asked

-- name: block_runs
-- The blocks of these runs that have begun.
SELECT run_id, block_id, nullif(map_index, -1) AS map_index, state, attempt, row_count, queue_ms, duration_ms, started_at,
       finished_at, coalesce(error, 'null') AS error
FROM block_runs
WHERE run_id = ANY ($1::uuid[])

-- name: active
-- How many runs wait, and how many execute.
SELECT (SELECT count(*) FROM runs WHERE state = 'queued') AS queued,
       (SELECT count(*) FROM runs WHERE state = 'running') AS running

-- name: exists
SELECT id FROM runs WHERE id = $1::uuid OR number = $2::bigint
