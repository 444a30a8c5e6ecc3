-- name: lock
-- Whoever changes a run by hand has it to itself: what its owner commits meanwhile comes before or is refused.
SELECT id, state, pipeline_id FROM runs WHERE id = $1 FOR UPDATE

-- name: resume
-- A new run that goes on where a failed or cancelled one ended: what succeeded or was skipped there is done here, too, and
-- is told to whoever watches; but not what comes after a block that begins anew, such as one that runs whatever happened,
-- nor a callback of such a block or of the run's end. A block ($4) can be named that shall begin anew, also of a success. Large outputs stay where they are, both runs name them by one key.
WITH RECURSIVE old AS MATERIALIZED (
    SELECT r.*, v.graph
    FROM runs r
    LEFT JOIN pipeline_versions v ON v.pipeline_id = r.pipeline_id AND v.version = r.version
    WHERE r.id = $1 AND (r.state IN ('failed', 'cancelled') OR r.state = 'success' AND $4::text IS NOT NULL)
), steps AS MATERIALIZED (
    SELECT b ->> 'id' AS block_id, upstream
    FROM old
    CROSS JOIN jsonb_array_elements(graph -> 'blocks') b
    CROSS JOIN jsonb_array_elements_text(b -> 'upstream') upstream
    UNION ALL
    SELECT c ->> 'id', c ->> 'block' FROM old CROSS JOIN jsonb_array_elements(graph -> 'callbacks') c
), stale AS (
    (SELECT block_id FROM steps
     WHERE NOT EXISTS (SELECT 1 FROM block_runs b
                       WHERE b.run_id = $1 AND b.block_id = upstream AND b.map_index = -1
                         AND b.state IN ('success', 'skipped'))
     UNION ALL
     SELECT $4 WHERE $4 IS NOT NULL)
    UNION
    SELECT steps.block_id FROM stale JOIN steps ON steps.upstream = stale.block_id
), done AS MATERIALIZED (
    SELECT b.*, row_number() OVER (ORDER BY b.finished_at, b.block_id, b.map_index) AS nth
    FROM block_runs b
    JOIN old ON old.id = b.run_id
    WHERE b.state IN ('success', 'skipped') AND NOT EXISTS (SELECT 1 FROM stale WHERE stale.block_id = b.block_id)
), run AS (
    INSERT INTO runs (id, pipeline_id, schedule_id, event_id, item, event_item, variables, logical_date, note, origin,
                      parent_id, first_id, queue, callback_url, wants_callback, seq)
    SELECT $2, pipeline_id, schedule_id, event_id, item, event_item, variables, logical_date, $3, 'resume', id,
           coalesce(first_id, id), queue, callback_url, wants_callback, 1 + (SELECT count(*) FROM done)
    FROM old
    ON CONFLICT (parent_id) WHERE origin = 'resume' AND state IN ('queued', 'running') DO NOTHING
    RETURNING id, coalesce(schedule_id::text, pipeline_id) AS lane, queue
), blocks AS (
    INSERT INTO block_runs (run_id, block_id, map_index, state, attempt, row_count, queue_ms, duration_ms, started_at,
                            finished_at, error)
    SELECT run.id, d.block_id, d.map_index, d.state, d.attempt, d.row_count, d.queue_ms, d.duration_ms, d.started_at,
           d.finished_at, d.error
    FROM run
    CROSS JOIN done d
), outputs AS (
    INSERT INTO block_outputs (run_id, block_id, map_index, format, data, object, size, preview, profile)
    SELECT run.id, o.block_id, o.map_index, o.format, o.data, o.object, o.size, o.preview, o.profile
    FROM run
    CROSS JOIN done d
    JOIN block_outputs o ON (o.run_id, o.block_id, o.map_index) = (d.run_id, d.block_id, d.map_index)
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt, block_id, map_index, row_count, queue_ms, duration_ms)
    SELECT id, 1, 'run', 'queued', 0, NULL, NULL, NULL, NULL, NULL FROM run
    UNION ALL
    SELECT run.id, 1 + d.nth, 'block', d.state, d.attempt, d.block_id, nullif(d.map_index, -1), d.row_count, d.queue_ms,
           d.duration_ms
    FROM run
    CROSS JOIN done d
)
SELECT id, 0 AS dispatch, lane, queue FROM run

-- name: active_resume
SELECT id FROM runs WHERE parent_id = $1 AND origin = 'resume' AND state IN ('queued', 'running')

-- name: rerun
-- A new run of the newest version of the pipeline, from its first block, for the same event.
WITH run AS (
    INSERT INTO runs (id, pipeline_id, schedule_id, event_id, item, event_item, variables, logical_date, note, origin,
                      parent_id, first_id, queue, callback_url, wants_callback)
    SELECT $2, p.id, o.schedule_id, o.event_id, o.item, o.event_item, $3, o.logical_date, $4, 'rerun', o.id,
           coalesce(o.first_id, o.id), p.queue, o.callback_url, o.wants_callback
    FROM runs o
    JOIN pipelines p ON p.id = o.pipeline_id
    WHERE o.id = $1 AND o.state IN ('success', 'failed', 'cancelled')
    RETURNING id, coalesce(schedule_id::text, pipeline_id) AS lane, queue
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt) SELECT id, 1, 'run', 'queued', 0 FROM run
)
SELECT id, 0 AS dispatch, lane, queue FROM run

-- name: mark
-- A person says what became of a run, and nobody else may write it any more. Blocks that were under way are cancelled.
WITH open AS MATERIALIZED (
    SELECT run_id, block_id, map_index, attempt, row_number() OVER (ORDER BY block_id, map_index) AS nth
    FROM block_runs
    WHERE run_id = $1 AND state IN ('pending', 'running')
), marked AS (
    UPDATE runs r SET
        state = $2, error = $3, marked_at = clock_timestamp(), finished_at = coalesce(r.finished_at, clock_timestamp()),
        note = coalesce($4, r.note), epoch = r.epoch + 1, seq = r.seq + 1 + (SELECT count(*) FROM open), lease_owner = NULL
    WHERE r.id = $1 AND r.state <> $2
    RETURNING r.id, r.seq, r.attempt, r.state, r.error, r.started_at
), blocks AS (
    UPDATE block_runs b SET state = 'cancelled', finished_at = clock_timestamp()
    FROM open
    JOIN marked ON marked.id = open.run_id
    WHERE (b.run_id, b.block_id, b.map_index) = (open.run_id, open.block_id, open.map_index)
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt, block_id, map_index, error)
    SELECT id, seq, 'run', state, attempt, NULL, NULL, error FROM marked
    UNION ALL
    SELECT marked.id, marked.seq - open.nth, 'block', 'cancelled', open.attempt, open.block_id, nullif(open.map_index, -1),
           NULL
    FROM marked
    JOIN open ON open.run_id = marked.id
)
SELECT id FROM marked

-- name: annotate
-- A person writes another note on a run, or none.
UPDATE runs SET note = $2 WHERE id = $1 RETURNING id

-- name: lock_repetitions
-- A run and all that repeat it, for whoever deletes them.
SELECT id, state FROM runs WHERE id = $1 OR first_id = $1 ORDER BY id FOR UPDATE

-- name: delete
-- Delete runs that have ended with everything that hangs on them. Their changes stay until a purge: who watches is told of
-- the end.
WITH deleted AS (
    DELETE FROM runs WHERE id = ANY ($1::uuid[]) AND finished_at IS NOT NULL RETURNING id, epoch
), blocks AS (
    DELETE FROM block_runs b USING deleted WHERE b.run_id = deleted.id
), outputs AS (
    DELETE FROM block_outputs o USING deleted WHERE o.run_id = deleted.id RETURNING o.run_id, o.object
), discarded AS (
    INSERT INTO discarded_objects (prefix)
    SELECT 'runs/' || run_id FROM outputs WHERE object IS NOT NULL
    UNION
    SELECT 'runs/' || id FROM deleted WHERE epoch > 1  -- an owner that died may have left files that no row names
    ON CONFLICT DO NOTHING
), lines AS (
    DELETE FROM logs l USING deleted WHERE l.run_id = deleted.id
), told AS (
    DELETE FROM callbacks c USING deleted WHERE c.run_id = deleted.id
), waited AS (
    DELETE FROM signals s USING deleted WHERE s.run_id = deleted.id
)
SELECT id FROM deleted
