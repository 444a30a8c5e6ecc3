-- name: expire
-- End runs that have waited for longer than their schedule lets them, and have not begun: at most $1 of each schedule. The
-- range of ids, which the clocks of the gateways made, only narrows the search; the database's own clock decides.
WITH late AS MATERIALIZED (
    SELECT r.id, s.max_queue_age_s
    FROM schedules s
    CROSS JOIN LATERAL (
        SELECT id FROM runs
        WHERE state = 'queued' AND backfill_id IS NULL AND pipeline_id = s.pipeline_id AND schedule_id = s.id
          AND id < uuid_floor(now() + interval '1 minute' - s.max_queue_age_s * interval '1 second')
          AND created_at < now() - s.max_queue_age_s * interval '1 second' AND started_at IS NULL
        ORDER BY id
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ) r
    WHERE s.max_queue_age_s IS NOT NULL
), expired AS (
    UPDATE runs r SET
        state = 'failed', finished_at = clock_timestamp(), epoch = r.epoch + 1, seq = r.seq + 1,
        error = json_build_object('type', 'Expired', 'message', format(
                    'The run waited for longer than the %s s that its schedule allows.', late.max_queue_age_s))
    FROM late
    WHERE r.id = late.id
    RETURNING r.id, r.seq, r.attempt, r.error
), change AS (
    INSERT INTO changes (run_id, seq, kind, state, attempt, error)
    SELECT id, seq, 'run', 'failed', attempt, error FROM expired
)
SELECT id FROM expired

-- name: mark_late
-- Mark runs that were not finished within the SLA of their schedule, at most $1 of each: those whose time was up in the
-- last $2 seconds, whatever became of them since, and, when $3 asks for it, all that are still active. A backfill is late
-- by nature.
WITH late AS MATERIALIZED (
    SELECT r.id
    FROM schedules s
    CROSS JOIN LATERAL (
        SELECT id FROM runs
        WHERE schedule_id = s.id AND backfill_id IS NULL
          AND id >= uuid_floor(now() - (s.sla_s + $2::float8) * interval '1 second')
          AND id < uuid_floor(now() + interval '5 seconds' - s.sla_s * interval '1 second')
          AND NOT passed_sla AND coalesce(finished_at, now()) > created_at + s.sla_s * interval '1 second'
        ORDER BY id
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ) r
    WHERE s.sla_s IS NOT NULL
    UNION
    SELECT r.id
    FROM schedules s
    CROSS JOIN LATERAL (
        SELECT id FROM runs
        WHERE state = 'queued' AND backfill_id IS NULL AND pipeline_id = s.pipeline_id AND schedule_id = s.id
          AND NOT passed_sla AND now() > created_at + s.sla_s * interval '1 second'
        ORDER BY id
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ) r
    WHERE $3::boolean AND s.sla_s IS NOT NULL
    UNION
    SELECT r.id
    FROM schedules s
    CROSS JOIN LATERAL (
        SELECT id FROM runs
        WHERE state = 'running' AND backfill_id IS NULL AND schedule_id = s.id
          AND NOT passed_sla AND now() > created_at + s.sla_s * interval '1 second'
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ) r
    WHERE $3::boolean AND s.sla_s IS NOT NULL
)
UPDATE runs r SET passed_sla = true FROM late WHERE r.id = late.id RETURNING r.id
