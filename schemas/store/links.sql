-- name: create
INSERT INTO links (id, schedule_id, variables, max_uses, expires_at)
VALUES ($1, $2, $3, $4, now() + $5 * interval '1 second')
RETURNING expires_at

-- name: gate -> LinkGate
-- What the ingest path must know of a link that may still be used.
SELECT ''::bytea AS hash, l.id AS token_id, l.expires_at, s.id AS schedule_id, s.number, s.pipeline_id, s.source,
       s.source_config, s.variables, l.variables AS pinned, s.body_limit, s.is_paused OR p.is_paused AS is_paused,
       s.on_paused, s.filter, s.mapping, s.dedupe, s.split, s.rules_id, p.params_schema, p.queue
FROM links l
JOIN schedules s ON s.id = l.schedule_id
JOIN pipelines p ON p.id = s.pipeline_id
WHERE l.id = $1
  AND s.deleted_at IS NULL
  AND l.revoked_at IS NULL
  AND l.expires_at > now()
  AND (l.max_uses IS NULL OR l.uses < l.max_uses)

-- name: use
-- Count one use of a link that may still be used.
UPDATE links l SET uses = l.uses + 1
FROM schedules s
WHERE l.id = $1
  AND s.id = l.schedule_id
  AND s.deleted_at IS NULL
  AND l.revoked_at IS NULL
  AND l.expires_at > now()
  AND (l.max_uses IS NULL OR l.uses < l.max_uses)
RETURNING l.id
