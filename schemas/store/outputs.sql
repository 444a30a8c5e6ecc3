-- name: get -> StoredOutput
-- The newest output of a block, if it has one, and where the block stands.
SELECT b.state, b.row_count, o.format, o.data, o.object, o.size, coalesce(o.preview, 'null') AS preview,
       coalesce(o.profile, 'null') AS profile
FROM block_runs b
LEFT JOIN block_outputs o ON (o.run_id, o.block_id, o.map_index) = (b.run_id, b.block_id, b.map_index)
WHERE b.run_id = $1 AND b.block_id = $2 AND b.map_index = $3

-- name: keep_profile
-- Unless the output was written anew meanwhile: another attempt has another size or object.
UPDATE block_outputs SET profile = $4
WHERE run_id = $1 AND block_id = $2 AND map_index = $3 AND size = $5 AND object IS NOT DISTINCT FROM $6

-- name: previous
-- The last run before this one, not too far back, that succeeded and has an output of this block.
SELECT r.id
FROM (SELECT id, state FROM runs WHERE pipeline_id = $1 AND id < $2 ORDER BY id DESC LIMIT 1000) r
WHERE r.state = 'success' AND EXISTS (
    SELECT 1 FROM block_outputs o WHERE o.run_id = r.id AND o.block_id = $3 AND o.map_index = $4)
ORDER BY r.id DESC
LIMIT 1
