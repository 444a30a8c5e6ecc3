-- name: ingest
-- Write many deliveries in one commit: who comes first with a dedupe key wins, fresh deliveries become an event, and a run
-- where one is wanted. Of those that come again with a key so many are kept ($25), with their body only if it is another one.
-- Its own ids make a second try after an ambiguous commit harmless.
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::json[], $12::text[], $13::bytea[], $14::integer[], $15::bytea[], $16::json[], $17::text[],
        $18::uuid[], $19::text[], $20::uuid[], $21::text[], $22::json[], $23::text[], $24::bytea[]
    ) WITH ORDINALITY AS t (
        event_id, schedule_id, source, verdict, reason_code, reason, event_type, dedupe_key, content_type,
        kind, headers, query, body, size, sha256, timings, observed, rules_id, object,
        run_id, pipeline_id, variables, queue, event_item, position
    )
), won AS (
    INSERT INTO event_keys (schedule_id, dedupe_key, event_id, sha256, deliveries)
    SELECT schedule_id, dedupe_key, (array_agg(event_id ORDER BY position))[1], (array_agg(sha256 ORDER BY position))[1],
           count(*)
    FROM input
    WHERE dedupe_key IS NOT NULL
    GROUP BY schedule_id, dedupe_key
    ORDER BY schedule_id, dedupe_key
    ON CONFLICT (schedule_id, dedupe_key) DO UPDATE SET
        deliveries = event_keys.deliveries
            + CASE WHEN event_keys.event_id = excluded.event_id THEN 0 ELSE excluded.deliveries END,
        conflicts = event_keys.conflicts
            + CASE WHEN event_keys.sha256 <> excluded.sha256 THEN excluded.deliveries ELSE 0 END,
        last_delivery_at = clock_timestamp()
    RETURNING schedule_id, dedupe_key, event_id, sha256, deliveries, conflicts
), fresh AS MATERIALIZED (
    SELECT input.*
    FROM input
    LEFT JOIN won USING (schedule_id, dedupe_key)
    WHERE input.dedupe_key IS NULL OR won.event_id = input.event_id
), kept AS (
    SELECT event_id, schedule_id, source, verdict, reason_code, reason, event_type, dedupe_key, content_type, kind,
           headers, query, body, size, sha256, timings, observed, rules_id, object, NULL::uuid AS duplicate_of
    FROM fresh
    UNION ALL
    SELECT i.event_id, i.schedule_id, i.source, 'duplicate',
           CASE WHEN w.sha256 = i.sha256 THEN 'same_body' ELSE 'different_body' END,
           CASE WHEN w.sha256 = i.sha256 THEN 'it came before' ELSE 'another body came before with the same key' END,
           i.event_type, i.dedupe_key, i.content_type, i.kind, i.headers, i.query,
           CASE WHEN w.sha256 = i.sha256 THEN '' ELSE i.body END, i.size, i.sha256, i.timings, i.observed,
           i.rules_id, CASE WHEN w.sha256 = i.sha256 THEN NULL ELSE i.object END, w.event_id
    FROM input i
    JOIN won w USING (schedule_id, dedupe_key)
    WHERE w.event_id <> i.event_id
      AND (w.deliveries <= $25 OR w.sha256 <> i.sha256 AND w.conflicts <= $25)
), new_events AS (
    INSERT INTO events (id, schedule_id, source, verdict, reason_code, reason, event_type, dedupe_key, content_type, kind,
                        headers, query, body, size, sha256, timings, observed, rules_id, object, duplicate_of)
    SELECT * FROM kept
    ON CONFLICT (id) DO NOTHING
), new_runs AS (
    INSERT INTO runs (id, pipeline_id, schedule_id, event_id, event_item, variables, origin, queue)
    SELECT run_id, pipeline_id, schedule_id, event_id, event_item, variables, 'event', queue
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
       coalesce(won.sha256 <> input.sha256, false) AS differs,
       new_runs.number
FROM input
LEFT JOIN won USING (schedule_id, dedupe_key)
LEFT JOIN new_runs ON new_runs.id = input.run_id
ORDER BY input.position

-- name: ingest_items
-- Write one delivery that is split, with a run for each item that did not come before, be it in another delivery. An item
-- is unique by a key of its own, if it has one; those of a duplicate claim none, for they become no runs. All of it happens
-- or nothing, and a second try changes nothing.
WITH item AS MATERIALIZED (
    SELECT * FROM unnest($22::uuid[], $23::integer[], $24::text[], $25::json[], $26::bytea[])
        AS t (run_id, item, dedupe_key, variables, event_item)
), first AS (
    INSERT INTO event_keys (schedule_id, dedupe_key, event_id, sha256)
    SELECT $2::uuid, $8::text, $1::uuid, $15::bytea WHERE $8 IS NOT NULL
    ON CONFLICT (schedule_id, dedupe_key) DO UPDATE SET
        deliveries = event_keys.deliveries + CASE WHEN event_keys.event_id = excluded.event_id THEN 0 ELSE 1 END,
        conflicts = event_keys.conflicts + CASE WHEN event_keys.sha256 <> excluded.sha256 THEN 1 ELSE 0 END,
        last_delivery_at = clock_timestamp()
    RETURNING event_id, event_id <> $1 AS is_other, sha256 <> $15 AS differs, deliveries
), came AS (
    SELECT * FROM first
    UNION ALL
    SELECT $1, false, false, 1 WHERE $8 IS NULL
), won AS (
    INSERT INTO event_keys (schedule_id, dedupe_key, event_id, sha256)
    SELECT $2, i.dedupe_key, $1, sha256(i.event_item)
    FROM came
    CROSS JOIN item i
    WHERE NOT came.is_other AND i.dedupe_key IS NOT NULL
    ORDER BY i.dedupe_key
    ON CONFLICT (schedule_id, dedupe_key) DO UPDATE SET
        deliveries = event_keys.deliveries + CASE WHEN event_keys.event_id = excluded.event_id THEN 0 ELSE 1 END,
        conflicts = event_keys.conflicts + CASE WHEN event_keys.sha256 <> excluded.sha256 THEN 1 ELSE 0 END,
        last_delivery_at = clock_timestamp()
    RETURNING dedupe_key, event_id
), new_event AS (
    INSERT INTO events (id, schedule_id, source, verdict, reason_code, reason, event_type, dedupe_key, content_type, kind,
                        headers, query, body, size, sha256, timings, observed, rules_id, object, duplicate_of)
    SELECT $1, $2, $3, CASE WHEN is_other THEN 'duplicate' ELSE $4 END,
           CASE WHEN NOT is_other THEN $5 WHEN differs THEN 'different_body' ELSE 'same_body' END,
           CASE WHEN NOT is_other THEN $6 WHEN differs THEN 'another body came before with the same key'
                ELSE 'it came before' END,
           $7, $8, $9, $10, $11, $12, CASE WHEN is_other AND NOT differs THEN '' ELSE $13::bytea END, $14,
           $15, $16, $17, $18, CASE WHEN is_other AND NOT differs THEN NULL ELSE $19 END, nullif(event_id, $1)
    FROM came
    WHERE NOT is_other OR deliveries <= $27
    ON CONFLICT (id) DO NOTHING
), new_runs AS (
    INSERT INTO runs (id, pipeline_id, schedule_id, event_id, item, event_item, variables, origin, queue)
    SELECT i.run_id, $20, $2, $1, i.item, i.event_item, i.variables, 'event', $21
    FROM came
    CROSS JOIN item i
    LEFT JOIN won w ON w.dedupe_key = i.dedupe_key
    WHERE NOT came.is_other AND coalesce(w.event_id, $1) = $1
    ORDER BY i.item
    ON CONFLICT (id) DO NOTHING
    RETURNING id, number
), new_changes AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt)
    SELECT id, 1, 'run', 'queued', 0
    FROM new_runs
)
SELECT event_id, is_other AS is_duplicate, differs, (SELECT array_agg(id ORDER BY id) FROM new_runs) AS run_ids,
       (SELECT array_agg(number ORDER BY id) FROM new_runs) AS numbers
FROM came

-- name: explained -> ExplainedEvent
-- One event with all that judged it: its bytes, of a duplicate with the same body those of the first, and its rules.
SELECT e.id, e.schedule_id, e.source, e.verdict, e.reason_code, e.reason, e.event_type, e.dedupe_key, e.duplicate_of,
       e.content_type, e.kind, e.headers, e.query, e.observed, e.size, coalesce(f.body, e.body) AS body,
       coalesce(f.object, e.object) AS object, e.received_at, e.rules_id, r.filter, coalesce(r.mapping, '{}') AS mapping, r.dedupe, coalesce(r.split, false) AS split
FROM events e
LEFT JOIN events f ON f.id = e.duplicate_of AND e.reason_code = 'same_body'
LEFT JOIN rules r ON r.id = e.rules_id
WHERE e.id = $1

-- name: find
-- The newest events that match, and how far was looked; see `find` of runs. Who knows a key asks for it in so many schedules
-- ($15), and gets what came first with it and what is kept of those that came again.
WITH first AS MATERIALIZED (
    SELECT k.event_id AS id
    FROM (SELECT id FROM schedules WHERE $6::uuid IS NULL OR id = $6 ORDER BY id DESC LIMIT $15) s
    JOIN event_keys k ON k.schedule_id = s.id AND k.dedupe_key = ANY ($13::text[])
)
SELECT id, verdict, is_match, position = $4 AS is_last
FROM (
    SELECT c.id, c.verdict, row_number() OVER (ORDER BY c.id DESC) AS position,
           ($6::uuid IS NULL OR c.schedule_id = $6)
           AND ($7::text IS NULL OR c.verdict = $7)
           AND ($8::text IS NULL OR c.source = $8)
           AND ($9::text IS NULL OR c.reason_code = $9)
           AND ($10::text IS NULL OR c.event_type = $10)
           AND ($11::text IS NULL OR c.schedule_id IN (SELECT id FROM schedules WHERE pipeline_id = $11))
           AND ($14::text[] IS NULL OR c.verdict = ANY ($14))
           AND ($12::text IS NULL OR mentions(c.body, $12)) AS is_match
    FROM (
        (SELECT * FROM events WHERE $1 = 'newest' AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM events WHERE $1 = 'schedule' AND schedule_id = $6 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM events WHERE $1 = 'not accepted' AND verdict <> 'accepted' AND verdict = $7 AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM events WHERE $1 = 'reason' AND reason_code = $9 AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM events WHERE $1 = 'key' AND id = ANY (ARRAY(SELECT id FROM first)) AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT * FROM events WHERE $1 = 'key' AND duplicate_of = ANY (ARRAY(SELECT id FROM first)) AND id >= $2 AND id < $3
         ORDER BY id DESC LIMIT $4)
    ) c
) looked_at
WHERE is_match OR position = $4
ORDER BY id DESC
LIMIT $5

-- name: oldest
SELECT id FROM events ORDER BY id LIMIT 1

-- name: rows -> Event
-- These events, the newest first, without their bodies; $2 and $3 are the first and the last id, for the partitions' sake.
SELECT e.id, e.schedule_id, e.source, e.verdict, e.reason_code, e.reason, e.event_type, e.dedupe_key, e.content_type, e.kind,
       e.size, encode(e.sha256, 'hex') AS sha256, coalesce(k.deliveries, 1) AS deliveries, coalesce(k.conflicts, 0) AS conflicts,
       e.headers, e.query, e.timings, e.observed, e.rules_id, e.duplicate_of, e.received_at
FROM events e
LEFT JOIN event_keys k ON k.schedule_id = e.schedule_id AND k.dedupe_key = e.dedupe_key AND k.event_id = e.id
WHERE e.id = ANY ($1::uuid[]) AND e.id >= $2 AND e.id <= $3
ORDER BY e.id DESC

-- name: body -> EventBody
-- The bytes of one event, as they came; of a duplicate with the same body those of the first.
SELECT e.content_type, coalesce(f.body, e.body) AS body, coalesce(f.object, e.object) AS object, e.size, e.sha256,
       (coalesce(f.object, e.object) IS NOT NULL OR length(coalesce(f.body, e.body)) = e.size)
           AND e.reason_code IS DISTINCT FROM 'too_large' AS is_whole
FROM events e
LEFT JOIN events f ON f.id = e.duplicate_of AND e.reason_code = 'same_body'
WHERE e.id = $1

-- name: runs_caused
-- The runs that these events caused when they came, so many of each, in the order of their items.
SELECT wanted.event_id, r.id, r.number, r.state
FROM unnest($1::uuid[]) AS wanted (event_id)
CROSS JOIN LATERAL (
    SELECT id, number, state
    FROM runs
    WHERE event_id = wanted.event_id AND origin = 'event'
    ORDER BY item, (CASE origin WHEN 'event' THEN '00000000-0000-0000-0000-000000000000'::uuid ELSE id END)
    LIMIT $2
) r

-- name: count_replays
-- By how many replays each of these events became runs again, as far as so many runs tell.
SELECT wanted.event_id, few.count
FROM unnest($1::uuid[]) AS wanted (event_id)
CROSS JOIN LATERAL (
    SELECT count(DISTINCT replay_id) AS count
    FROM (SELECT replay_id FROM runs WHERE event_id = wanted.event_id AND replay_id IS NOT NULL LIMIT $2) made
) few
WHERE few.count > 0

-- name: runs_of -> RunOfEvent
-- The runs of one event, whatever for, the oldest first.
SELECT id, number, state, item, pipeline_id, schedule_id, origin, replay_id, parent_id, created_at
FROM (SELECT * FROM runs WHERE event_id = $1 LIMIT $2) found
ORDER BY id

-- name: duplicates -> Duplicate
-- What is kept of the deliveries that came again with the key of this one.
SELECT id, reason_code, size, encode(sha256, 'hex') AS sha256, received_at
FROM events
WHERE duplicate_of = $1
ORDER BY id
LIMIT $2

-- name: rules -> JudgedBy
SELECT filter, mapping, dedupe, split FROM rules WHERE id = $1

-- name: sha256_of_first
-- The hash of the delivery that came first with a key, null when none did; asked before a large body is stored.
SELECT (SELECT sha256 FROM event_keys WHERE schedule_id = $1 AND dedupe_key = $2) AS sha256

-- name: names_object
-- Whether an event was written, and names an object of the object store.
SELECT EXISTS (SELECT 1 FROM events WHERE id = $1 AND object IS NOT NULL)
