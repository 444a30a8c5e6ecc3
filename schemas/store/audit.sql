-- name: record
INSERT INTO audit (id, key_id, caller, role, action, subject, details) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: page -> AuditEntry
-- The newest entries before a cursor; ids are times.
SELECT id, at, key_id, caller, role, action, subject, details
FROM audit
WHERE ($1::uuid IS NULL OR id < $1)
  AND ($2::text IS NULL OR subject = $2)
  AND ($3::text IS NULL OR action = $3)
  AND ($4::text IS NULL OR caller = $4)
  AND ($5::timestamptz IS NULL OR id >= uuid_floor($5))
  AND ($6::timestamptz IS NULL OR id < uuid_floor($6))
ORDER BY id DESC
LIMIT $7
