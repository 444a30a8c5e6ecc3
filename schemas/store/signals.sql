-- name: get -> Signal
SELECT id, round, hash, sent_at, coalesce(extract(epoch FROM clock_timestamp() - sent_at), 0)::float8 AS waited_s,
       received_at, coalesce(payload, 'null') AS payload
FROM signals
WHERE run_id = $1 AND block_id = $2 AND map_index = $3

-- name: ask -> Signal
-- A block begins to wait, in its first round or in the next one; a second try finds what the first has written.
INSERT INTO signals AS s (id, run_id, block_id, map_index, round, hash)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (run_id, block_id, map_index) DO UPDATE SET
    round = excluded.round,
    hash = CASE WHEN s.round < excluded.round THEN excluded.hash ELSE s.hash END,
    sent_at = CASE WHEN s.round = excluded.round THEN s.sent_at END,
    received_at = CASE WHEN s.round = excluded.round THEN s.received_at END,
    payload = CASE WHEN s.round = excluded.round THEN s.payload END
    WHERE s.round <= excluded.round
RETURNING s.id, s.round, s.hash, s.sent_at, coalesce(extract(epoch FROM clock_timestamp() - s.sent_at), 0)::float8 AS waited_s,
          s.received_at, coalesce(s.payload, 'null') AS payload

-- name: sent
-- The outside system took the request of this round.
UPDATE signals SET sent_at = clock_timestamp() WHERE id = $1 AND round = $2 AND sent_at IS NULL

-- name: receive
-- Whoever has the token gives the answer, once.
WITH found AS (
    SELECT id FROM signals WHERE hash = $1 AND run_id = $2
), taken AS (
    UPDATE signals s SET received_at = clock_timestamp(), payload = $3
    FROM found
    WHERE s.id = found.id AND s.received_at IS NULL
    RETURNING s.id
)
SELECT EXISTS (SELECT 1 FROM taken) AS is_first FROM found

-- name: answers
-- Of these waits, those that are over.
SELECT id, payload FROM signals WHERE id = ANY ($1::uuid[]) AND received_at IS NOT NULL
