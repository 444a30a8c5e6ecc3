-- name: pipelines
SELECT id, doc FROM pipelines
WHERE strpos(lower(id), lower($1)) > 0 OR strpos(lower(doc), lower($1)) > 0
ORDER BY id
LIMIT $2

-- name: schedules
SELECT id, number, name, pipeline_id FROM schedules
WHERE deleted_at IS NULL AND (strpos(lower(name), lower($1)) > 0 OR id = $2::uuid)
ORDER BY id DESC
LIMIT $3

-- name: runs
-- By id or number; by the beginning of a run_key; by what is in a note, among so many of the newest runs that have one.
SELECT id, number, pipeline_id, state, run_key, note
FROM runs
WHERE id = ANY (ARRAY(
    SELECT id FROM runs WHERE id = $2::uuid OR number = $3::bigint
    UNION
    (SELECT id FROM runs
     WHERE run_key IS NOT NULL AND lower(run_key) COLLATE "C" >= lower($1)
       AND lower(run_key) COLLATE "C" < lower($1) || U&'\+10FFFF'
     ORDER BY lower(run_key) COLLATE "C"
     LIMIT $5)
    UNION
    SELECT id FROM (SELECT id, note FROM runs WHERE note IS NOT NULL ORDER BY id DESC LIMIT $4) noted
    WHERE strpos(lower(note), lower($1)) > 0))
ORDER BY id DESC
LIMIT $5

-- name: events
-- By id; by a delivery's id, with or without the word before it, whatever its age; and among so many of the newest events by
-- what is in their delivery's id or type.
SELECT id, event_type, dedupe_key, source, verdict
FROM (
    SELECT id, event_type, dedupe_key, source, verdict FROM events WHERE id = $2::uuid
    UNION
    SELECT e.id, e.event_type, e.dedupe_key, e.source, e.verdict
    FROM (SELECT id, source FROM schedules ORDER BY id DESC LIMIT $4) s
    JOIN event_keys k ON k.schedule_id = s.id AND k.dedupe_key = ANY ($3::text[] || (s.source || ':' || $1::text))
    JOIN events e ON e.id = k.event_id
    UNION
    SELECT id, event_type, dedupe_key, source, verdict
    FROM (SELECT id, event_type, dedupe_key, source, verdict FROM events ORDER BY id DESC LIMIT $5) newest
    WHERE strpos(lower(dedupe_key), lower($1)) > 0 OR strpos(lower(event_type), lower($1)) > 0
) found
ORDER BY id DESC
LIMIT $6
