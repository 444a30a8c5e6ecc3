-- name: create -> Token
INSERT INTO tokens (id, schedule_id, hash, hint, label, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id, schedule_id, hint, label, created_at, expires_at, revoked_at, last_used_at

-- name: import -> Token
-- A token that another product made, known by its hash; nothing where there is one with this hash, whatever became of it.
INSERT INTO tokens (id, schedule_id, hash, hint, label)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (hash) DO NOTHING
RETURNING id, schedule_id, hint, label, created_at, expires_at, revoked_at, last_used_at

-- name: by_hash -> Token
SELECT id, schedule_id, hint, label, created_at, expires_at, revoked_at, last_used_at
FROM tokens
WHERE hash = $1

-- name: of_schedule -> Token
SELECT id, schedule_id, hint, label, created_at, expires_at, revoked_at, last_used_at
FROM tokens
WHERE schedule_id = $1
ORDER BY id DESC

-- name: get -> Token
SELECT id, schedule_id, hint, label, created_at, expires_at, revoked_at, last_used_at
FROM tokens
WHERE id = $1

-- name: revoke
UPDATE tokens SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING id

-- name: expire_after
-- End the old token of a rotation after its grace, never later than it would have ended anyway.
UPDATE tokens SET expires_at = least(expires_at, now() + $2 * interval '1 second') WHERE id = $1 AND revoked_at IS NULL

-- name: gates -> Gate
-- What the ingest path must know about live tokens, by their hashes.
SELECT t.hash, t.id AS token_id, t.expires_at, s.id AS schedule_id, s.number, s.pipeline_id, s.source, s.source_config,
       s.variables, s.body_limit, s.is_paused OR p.is_paused AS is_paused, s.on_paused,
       s.filter, s.mapping, s.dedupe, s.split, s.rules_id, p.params_schema, p.queue
FROM tokens t
JOIN schedules s ON s.id = t.schedule_id
JOIN pipelines p ON p.id = s.pipeline_id
WHERE t.hash = ANY ($1::bytea[])
  AND t.revoked_at IS NULL
  AND s.deleted_at IS NULL
  AND (t.expires_at IS NULL OR t.expires_at > now())

-- name: touch
-- Note the last use, coarsely.
UPDATE tokens SET last_used_at = now() WHERE id = ANY ($1::uuid[])

-- name: registry
-- The version of everything that a gateway remembers, and the database's clock.
SELECT version, clock_timestamp() AS now FROM registry
