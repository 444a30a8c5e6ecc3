"""The yardstick for runs per second: `python -P -m gateway.bench.stock_arq`, one Question on stdin, one Drained back.

arq's own worker, tuned (100 jobs at once, a poll every 10 ms, no results kept), whose job does what a status needs at
least: two durable updates of one row. It calls no user code and starts no process, so it has an easier life than we.
"""

import asyncio
import sys
import uuid
from typing import Any

import asyncpg
import msgspec
import uvloop
from arq.connections import ArqRedis
from arq.worker import Worker, func

QUEUE = "bench:stock"
AT_ONCE = 100
POOL = 10
_TABLE = """
CREATE TABLE IF NOT EXISTS bench_jobs (
    id uuid PRIMARY KEY, state text NOT NULL, started_at timestamptz, finished_at timestamptz)
"""
_FILL = "INSERT INTO bench_jobs (id, state) SELECT unnest($1::uuid[]), 'queued'"
_START = "UPDATE bench_jobs SET state = 'running', started_at = clock_timestamp() WHERE id = $1"
_FINISH = "UPDATE bench_jobs SET state = 'success', finished_at = clock_timestamp() WHERE id = $1"
_RATE = """
SELECT count(finished_at) / extract(epoch FROM max(finished_at) - min(started_at))::float8
FROM bench_jobs WHERE id = ANY ($1::uuid[])
"""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Where, and how many jobs."""

    database_url: str
    redis_url: str
    count: int


class Drained(msgspec.Struct, frozen=True):
    """How fast they were done."""

    per_second: float


async def drain(question: Question) -> Drained:
    """Queue all jobs, then let one worker do them."""
    redis = ArqRedis.from_url(question.redis_url)
    async with asyncpg.create_pool(question.database_url, min_size=POOL, max_size=POOL, reset=_keep_as_is) as pool:

        async def execute(ctx: dict[Any, Any], *args: Any) -> None:
            job = uuid.UUID(args[0])
            await pool.execute(_START, job)
            await pool.execute(_FINISH, job)

        jobs = [uuid.uuid4() for _ in range(question.count)]
        await pool.execute(_TABLE)
        await pool.execute(_FILL, jobs)
        for start in range(0, len(jobs), AT_ONCE):
            some = jobs[start : start + AT_ONCE]
            await asyncio.gather(*(redis.enqueue_job("execute", str(job), _queue_name=QUEUE) for job in some))
        worker = Worker(
            [func(execute, name="execute", keep_result=0)],
            redis_pool=redis,
            queue_name=QUEUE,
            burst=True,
            max_jobs=AT_ONCE,
            poll_delay=0.01,
            keep_result=0,
            handle_signals=False,
            log_results=False,
        )
        await worker.main()
        rate: float = await pool.fetchval(_RATE, jobs)
    await redis.aclose()
    return Drained(rate)


async def _keep_as_is(_connection: Any) -> None:
    """Skip the reset query, which would slow this down by a third."""


def main() -> None:
    """Answer the question on stdin."""
    question = msgspec.json.decode(sys.stdin.readline(), type=Question)
    sys.stdout.write(msgspec.json.encode(uvloop.run(drain(question))).decode() + "\n")


if __name__ == "__main__":
    main()
