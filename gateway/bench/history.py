"""A long history that was never lived: rows as many runs and events would have left them, made by Postgres itself.

The runs are spread over the last days and over twenty pipelines, of which the first has half of them; some failed, some
were cancelled, some wait for a pipeline that nobody has. Everything can be derived from a number, so that two halves of
the bench agree on it.
"""

import msgspec

from schemas.store.db import Db


class History(msgspec.Struct, frozen=True, kw_only=True):
    """How much there was; events that caused no run are those beyond `runs`."""

    runs: int
    events: int
    days: int = 90
    pipelines: int = 20
    batch: int = 200_000

    def batches(self, count: int) -> list[tuple[int, int]]:
        """Divide the numbers from 1 to `count`."""
        return [(first, min(first + self.batch - 1, count)) for first in range(1, count + 1, self.batch)]


_FUNCTIONS = """
CREATE FUNCTION pg_temp.moment(number bigint, count bigint, days integer) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT '{newest}'::timestamptz - (1 - number::float8 / count) * days * interval '1 day'
$$;
CREATE FUNCTION pg_temp.id(kind text, number bigint, moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '7' || kind || '8'
            || lpad(to_hex(number), 15, '0'))::uuid
$$;
CREATE FUNCTION pg_temp.pipeline(number bigint, count integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'history_' || CASE number % 2 WHEN 0 THEN 0 ELSE number / 2 % (count - 1) + 1 END
$$;
CREATE FUNCTION pg_temp.schedule(number bigint, count integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT md5(pg_temp.pipeline(number, count))::uuid
$$;
"""
_PARTITIONS = """
DO $$
DECLARE
    day timestamptz;
    parent text;
BEGIN
    FOR ago IN 2 .. {days} LOOP
        day := date_trunc('day', now(), 'UTC') - ago * interval '1 day';
        FOREACH parent IN ARRAY ARRAY['events', 'changes', 'logs'] LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                           parent || to_char(day AT TIME ZONE 'UTC', '_YYYYMMDD'), parent,
                           uuid_floor(day), uuid_floor(day + interval '1 day'));
        END LOOP;
    END LOOP;
END $$
"""
_PIPELINES = """
WITH names AS (SELECT DISTINCT pg_temp.pipeline(n, $1) AS id FROM generate_series(1, 2 * $1) n), made AS (
    INSERT INTO pipelines (id, file, version, graph)
    SELECT id, id || '.py', 'history', '{"blocks": [{"id": "work", "writes": ["orders"]}]}' FROM names
)
INSERT INTO schedules (id, pipeline_id, name, kind, source) SELECT md5(id)::uuid, id, id, 'api', 'generic' FROM names
"""
_EVENTS = """
INSERT INTO events (id, schedule_id, source, verdict, reason_code, event_type, dedupe_key, duplicate_of, content_type,
                    kind, headers, body, size, received_at)
SELECT pg_temp.id('001', n, at), pg_temp.schedule(n, $5), CASE n % 5000 WHEN 0 THEN 'github' ELSE 'generic' END,
       CASE n % 1000 WHEN 1 THEN 'rejected' WHEN 4 THEN 'duplicate' ELSE 'accepted' END,
       CASE n % 1000 WHEN 1 THEN 'bad_signature' WHEN 4 THEN 'different_body' END,
       'order.made', CASE n % 1000 WHEN 2 THEN 'key:order-' || n WHEN 4 THEN 'key:order-' || n - 2 END,
       CASE n % 1000 WHEN 4 THEN pg_temp.id('001', n - 2, pg_temp.moment(n - 2, $3, $4)) END,
       'application/json', 'json', '{"content-type": "application/json"}', body, length(body), at
FROM generate_series($1::bigint, $2::bigint) n
CROSS JOIN LATERAL pg_temp.moment(n, $3, $4) at
CROSS JOIN LATERAL convert_to(
    format('{"order": %s, "customer": "customer-%s", "lines": [{"sku": "a-1", "count": 2}]}', n, n / 1000), 'UTF8'
) body
"""
_KEYS = """
INSERT INTO event_keys (schedule_id, dedupe_key, event_id, deliveries)
SELECT pg_temp.schedule(n, $5), 'key:order-' || n, pg_temp.id('001', n, pg_temp.moment(n, $3, $4)), 2
FROM generate_series($1::bigint, $2::bigint) n
WHERE n % 1000 = 2
"""
_RUNS = """
INSERT INTO runs (id, pipeline_id, version, schedule_id, event_id, state, origin, parent_id, replay_id, run_key, note,
                  attempt, epoch, seq, created_at, started_at, finished_at, error)
SELECT pg_temp.id('000', n, at), pg_temp.pipeline(n, $5), 'history',
       CASE WHEN origin = 'event' THEN pg_temp.schedule(n, $5) END,
       CASE origin WHEN 'event' THEN pg_temp.id('001', n * $6, pg_temp.moment(n * $6, $7, $4))
                   WHEN 'replay' THEN pg_temp.id('001', (n - 1) * $6, pg_temp.moment((n - 1) * $6, $7, $4)) END,
       state, origin,
       CASE WHEN origin = 'run' THEN pg_temp.id('000', n - 1, pg_temp.moment(n - 1, $3, $4)) END,
       CASE WHEN origin = 'replay' THEN md5('replay')::uuid END,
       CASE WHEN n % 200 = 7 THEN 'key-' || n END, CASE WHEN n % 1000 = 7 THEN 'note of run ' || n END,
       1, 1, 3, at, CASE WHEN state <> 'queued' THEN at END,
       CASE WHEN state <> 'queued' THEN at + interval '1 second' END,
       CASE WHEN state = 'failed' THEN '{"type": "ValueError", "message": "made up"}'::json END
FROM generate_series($1::bigint, $2::bigint) n
CROSS JOIN LATERAL pg_temp.moment(n, $3, $4) at
CROSS JOIN LATERAL (
    SELECT CASE WHEN n > $3 - 50 THEN 'queued' WHEN n % 100 = 3 THEN 'failed' WHEN n % 500 = 5 THEN 'cancelled'
                ELSE 'success' END AS state,
           CASE n % 100 WHEN 7 THEN 'api' WHEN 11 THEN 'run' WHEN 13 THEN 'replay' ELSE 'event' END AS origin
) made
"""
_BLOCKS = """
INSERT INTO block_runs (run_id, block_id, state, attempt, duration_ms, started_at, finished_at)
SELECT pg_temp.id('000', n, at), 'work', 'success', 1, 1000, at, at + interval '1 second'
FROM generate_series($1::bigint, $2::bigint) n
CROSS JOIN LATERAL pg_temp.moment(n, $3, $4) at
"""
_CHANGES = """
INSERT INTO changes (run_id, seq, at, kind, state, attempt)
SELECT pg_temp.id('000', n, at), change.*
FROM generate_series($1::bigint, $2::bigint) n
CROSS JOIN LATERAL pg_temp.moment(n, $3, $4) at
CROSS JOIN LATERAL (
    VALUES (1, at, 'run', 'queued', 0), (2, at, 'run', 'running', 1), (3, at, 'run', 'success', 1)
) change
"""


async def write(db: Db, history: History, *, with_partitions: bool = True) -> None:
    """Write a history into a migrated, empty database; `db` is one connection, since it makes functions for itself."""
    newest = await db.fetchval("SELECT now() - interval '15 minutes'")
    await db.execute(_FUNCTIONS.replace("{newest}", newest.isoformat()))
    if with_partitions:
        await db.execute(_PARTITIONS.format(days=history.days + 1))
    await db.execute(_PIPELINES, history.pipelines)
    events_per_run = max(1, history.events // history.runs)
    for first, last in history.batches(history.events):
        of_events = (first, last, history.events, history.days, history.pipelines)
        await db.execute(_EVENTS, *of_events)
        await db.execute(_KEYS, *of_events)
    of_runs = (history.runs, history.days)
    for first, last in history.batches(history.runs):
        await db.execute(_RUNS, first, last, *of_runs, history.pipelines, events_per_run, history.events)
        await db.execute(_BLOCKS, first, last, *of_runs)
        await db.execute(_CHANGES, first, last, *of_runs)
    await db.execute("VACUUM (ANALYZE)")
