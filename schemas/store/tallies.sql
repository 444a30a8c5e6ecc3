-- name: lock
-- One closer at a time, and nobody who overrules a state meanwhile: what is counted must be seen whole.
SELECT pg_try_advisory_xact_lock(hashtext('penstock.tallies'))

-- name: close
-- Count hours that are over, in which no run is active, once and for ever: the newest first, at most $1 of them. The ten
-- minutes are for deliveries that were held and for clocks that differ.
WITH bounds AS (
    SELECT greatest(uuid_hour((SELECT id FROM runs ORDER BY id LIMIT 1)),
                    date_trunc('hour', now() - interval '366 days', 'UTC')) AS first,
           date_trunc('hour', now() - interval '10 minutes', 'UTC') - interval '1 hour' AS last
), busy AS (
    SELECT DISTINCT uuid_hour(id) AS hour FROM runs WHERE state = 'running'
), hours AS MATERIALIZED (
    SELECT h.hour
    FROM bounds
    CROSS JOIN LATERAL generate_series(bounds.last, bounds.first, interval '-1 hour') AS h (hour)
    WHERE h.hour NOT IN (SELECT hour FROM busy)
      AND NOT EXISTS (SELECT 1 FROM tallies t WHERE t.pipeline_id = '' AND t.hour = h.hour)
      AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.state = 'queued' AND r.id >= uuid_floor(h.hour)
                                             AND r.id < uuid_floor(h.hour + interval '1 hour'))
    LIMIT $1
), counted AS (
    SELECT hours.hour, r.*
    FROM hours
    CROSS JOIN LATERAL (
        SELECT pipeline_id, count(*) FILTER (WHERE state = 'success') AS success,
               count(*) FILTER (WHERE state = 'failed') AS failed,
               count(*) FILTER (WHERE state = 'cancelled') AS cancelled
        FROM runs
        WHERE id >= uuid_floor(hours.hour) AND id < uuid_floor(hours.hour + interval '1 hour')
        GROUP BY pipeline_id
    ) r
), closed AS (
    INSERT INTO tallies (pipeline_id, hour, success, failed, cancelled)
    SELECT pipeline_id, hour, success, failed, cancelled FROM counted
    UNION ALL
    SELECT '', hours.hour, coalesce(sum(success), 0), coalesce(sum(failed), 0), coalesce(sum(cancelled), 0)
    FROM hours LEFT JOIN counted USING (hour)
    GROUP BY hours.hour
    ON CONFLICT DO NOTHING
    RETURNING pipeline_id
)
SELECT count(*) FROM closed WHERE pipeline_id = ''

-- name: hours -> Hour
-- The counts of each hour from $1 on in which there are runs.
SELECT * FROM hourly($1, '')

-- name: days -> Day
-- The same for each day of UTC, of the pipeline $2, or of all when that is empty.
SELECT (hour AT TIME ZONE 'UTC')::date AS date, sum(success)::bigint AS success, sum(failed)::bigint AS failed,
       sum(cancelled)::bigint AS cancelled, sum(running)::bigint AS running, sum(queued)::bigint AS queued,
       sum(success + failed + cancelled + running + queued)::bigint AS total
FROM hourly($1, $2)
GROUP BY 1
ORDER BY 1

-- name: failing -> Failing
-- Which pipelines failed most often since $1: in closed hours by their tallies, in the others by counting.
SELECT pipeline_id, sum(failed)::bigint AS failed
FROM (
    SELECT pipeline_id, failed FROM tallies WHERE failed > 0 AND hour >= $1 AND pipeline_id <> ''
    UNION ALL
    SELECT r.pipeline_id, r.failed
    FROM open_hours($1) AS open (hour)
    CROSS JOIN LATERAL (
        SELECT pipeline_id, count(*) AS failed
        FROM runs
        WHERE state = 'failed' AND id >= uuid_floor(open.hour) AND id < uuid_floor(open.hour + interval '1 hour')
        GROUP BY pipeline_id
    ) r
) counted
GROUP BY pipeline_id
ORDER BY failed DESC, pipeline_id
LIMIT $2

-- name: totals -> RunTotals
-- The counts of each of these pipelines, from the hour of the oldest run that is kept.
SELECT p.id AS pipeline_id, coalesce(sum(success), 0)::bigint AS success, coalesce(sum(failed), 0)::bigint AS failed,
       coalesce(sum(cancelled), 0)::bigint AS cancelled, coalesce(sum(running), 0)::bigint AS running,
       coalesce(sum(queued), 0)::bigint AS queued
FROM unnest($1::text[]) AS p (id)
LEFT JOIN LATERAL hourly(coalesce(uuid_hour((SELECT id FROM runs ORDER BY id LIMIT 1)), now()), p.id) ON true
GROUP BY p.id
