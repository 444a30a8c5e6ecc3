-- name: page -> LogLine
-- The log of a run after a cursor, in order.
SELECT seq, at, run_id, block_id, map_index, attempt, level, message, fields
FROM logs
WHERE run_id = $1
  AND seq > $2
  AND ($3::text IS NULL OR block_id = $3)
  AND ($4::text[] IS NULL OR level = ANY ($4))
  AND ($5::integer IS NULL OR attempt = $5)
  AND ($6::integer IS NULL OR map_index = $6)
  AND ($7::timestamptz IS NULL OR at >= $7)
  AND ($8::timestamptz IS NULL OR at < $8)
ORDER BY seq
LIMIT $9
