-- name: record
-- Write what happened to many runs, each only if its epoch is still the owner's: states, blocks, outputs, changes and log
-- lines in one commit. $46 is how many seconds the database's clock is ahead of the clock of the writer's moments. The row
-- lock closes the race with a reclaim. A second try after an ambiguous commit finds its own epoch and seq in the row and
-- counts as applied.
WITH runs_in AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::integer[], $4::text[], $5::json[])
        AS t (run_id, epoch, seq, state, error)
), mine AS MATERIALIZED (
    SELECT r.id, r.started_at
    FROM runs r
    JOIN runs_in i ON i.run_id = r.id AND i.epoch = r.epoch
    WHERE r.state = 'running' AND r.seq < i.seq
    ORDER BY r.id
    FOR UPDATE OF r
), progressed AS (
    UPDATE runs r SET
        seq = i.seq,
        state = coalesce(i.state, r.state),
        finished_at = CASE WHEN i.state IS NOT NULL THEN clock_timestamp() END,
        lease_owner = CASE WHEN i.state IS NULL THEN r.lease_owner END,
        error = i.error
    FROM runs_in i
    JOIN mine ON mine.id = i.run_id
    WHERE r.id = i.run_id
), blocks AS (
    INSERT INTO block_runs AS b (run_id, block_id, map_index, state, attempt, row_count, queue_ms, duration_ms, started_at,
                                 finished_at, error)
    SELECT t.run_id, t.block_id, t.map_index, t.state, t.attempt, t.row_count, t.queue_ms, t.duration_ms,
           CASE WHEN t.began_at IS NOT NULL THEN greatest(to_timestamp($46 + t.began_at), mine.started_at) END,
           CASE WHEN t.ended_at IS NOT NULL THEN greatest(to_timestamp($46 + t.ended_at), mine.started_at) END, t.error
    FROM unnest($6::uuid[], $7::text[], $8::text[], $9::integer[], $10::bigint[], $11::bigint[], $12::float8[],
                $13::float8[], $14::json[], $15::integer[], $16::bigint[])
        AS t (run_id, block_id, state, attempt, row_count, duration_ms, began_at, ended_at, error, map_index, queue_ms)
    JOIN mine ON mine.id = t.run_id
    ON CONFLICT (run_id, block_id, map_index) DO UPDATE SET
        state = excluded.state, attempt = excluded.attempt, row_count = excluded.row_count,
        queue_ms = excluded.queue_ms, duration_ms = excluded.duration_ms,
        started_at = coalesce(excluded.started_at, b.started_at), finished_at = excluded.finished_at,
        error = excluded.error
), outputs AS (
    INSERT INTO block_outputs (run_id, block_id, map_index, format, data, object, size, preview)
    SELECT t.run_id, t.block_id, t.map_index, t.format, t.data, t.object, t.size, t.preview
    FROM unnest($17::uuid[], $18::text[], $19::integer[], $20::text[], $21::bytea[], $22::text[], $23::bigint[],
                $24::json[])
        AS t (run_id, block_id, map_index, format, data, object, size, preview)
    JOIN mine ON mine.id = t.run_id
    ON CONFLICT (run_id, block_id, map_index) DO UPDATE SET
        format = excluded.format, data = excluded.data, object = excluded.object, size = excluded.size,
        preview = excluded.preview, profile = NULL
), new_changes AS (
    INSERT INTO changes (run_id, seq, at, kind, state, block_id, map_index, attempt, row_count, queue_ms, duration_ms,
                         error)
    SELECT t.run_id, t.seq, greatest(to_timestamp($46 + t.at), mine.started_at), t.kind, t.state, t.block_id, t.map_index,
           t.attempt, t.row_count, t.queue_ms, t.duration_ms, t.error
    FROM unnest($25::uuid[], $26::integer[], $27::float8[], $28::text[], $29::text[], $30::text[], $31::integer[],
                $32::bigint[], $33::bigint[], $34::json[], $35::integer[], $36::bigint[])
        AS t (run_id, seq, at, kind, state, block_id, attempt, row_count, duration_ms, error, map_index, queue_ms)
    JOIN mine ON mine.id = t.run_id
), new_logs AS (
    INSERT INTO logs (run_id, seq, at, block_id, map_index, attempt, level, message, fields)
    SELECT t.run_id, t.seq, greatest(to_timestamp($46 + t.at), mine.started_at), t.block_id, t.map_index, t.attempt,
           t.level, t.message, t.fields
    FROM unnest($37::uuid[], $38::integer[], $39::float8[], $40::text[], $41::integer[], $42::text[], $43::text[],
                $44::json[], $45::integer[])
        AS t (run_id, seq, at, block_id, attempt, level, message, fields, map_index)
    JOIN mine ON mine.id = t.run_id
)
SELECT i.run_id,
       mine.id IS NOT NULL
           OR EXISTS (SELECT 1 FROM runs r WHERE r.id = i.run_id AND r.epoch = i.epoch AND r.seq >= i.seq) AS applied
FROM runs_in i
LEFT JOIN mine ON mine.id = i.run_id

-- name: begun_blocks -> BegunBlock
-- Where an earlier owner left the blocks of a run, with the outputs of those that succeeded.
SELECT b.block_id, b.map_index, b.state, b.attempt, coalesce(b.error, 'null') AS error, o.format, o.data, o.object, o.size
FROM block_runs b
LEFT JOIN block_outputs o ON b.state = 'success' AND (o.run_id, o.block_id, o.map_index) = (b.run_id, b.block_id, b.map_index)
WHERE b.run_id = $1
