-- name: create -> Key
INSERT INTO api_keys (id, name, role, hash, hint)
VALUES ($1, $2, $3, $4, $5)
RETURNING id, name, role, hint, created_at, last_used_at, revoked_at

-- name: preset
-- The key that a setting brings; a revoked one stays revoked.
INSERT INTO api_keys (id, name, role, hash, hint)
VALUES ($1, $2, 'admin', $3, $4)
ON CONFLICT (hash) DO NOTHING

-- name: has_admin
SELECT EXISTS (SELECT 1 FROM api_keys WHERE role = 'admin' AND revoked_at IS NULL)

-- name: list_all -> Key
SELECT id, name, role, hint, created_at, last_used_at, revoked_at FROM api_keys ORDER BY id DESC LIMIT 1000

-- name: caller -> Caller
SELECT id, name, role FROM api_keys WHERE hash = $1 AND revoked_at IS NULL

-- name: revoke
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING id

-- name: touch
UPDATE api_keys SET last_used_at = now() WHERE id = ANY ($1::uuid[])
