"""The arq worker that hears the doorbell, changed where arq is not safe or not fast enough.

It polls at once when a ring wakes it, takes many jobs in one call, and outlives Redis. A job is gone from Redis once it
is taken; whatever happens then is for Postgres and the sweeper, so arq's own retries, results and aborts are not used.
With `schemas/queue.py` this is all that knows arq (0.28, in maintenance mode).
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
from arq.connections import ArqRedis
from arq.worker import Worker, func

from schemas import tasks
from schemas.queue import JOB_NAME, REDIS_FAULTS, Doorbell, Ring, decode_job, encode_job

log = structlog.get_logger()

POLL_S = 0.5
NO_TIMEOUT_S = 10**9
NO_LIMIT = 10**9
HEALTH_EVERY_S = 5
PAUSE_S = 0.5
REFILL_AFTER_S = 0.01

ExecuteRun = Callable[[dict[Any, Any]], Awaitable[None]]


class DoorbellWorker(Worker):
    """Starts one job for each ring, as many at once as `max_jobs`."""

    def __init__(
        self, execute_run: ExecuteRun, doorbell: Doorbell, *, pool: ArqRedis, queue: str, max_jobs: int
    ) -> None:
        super().__init__(
            [func(execute_run, name=JOB_NAME, keep_result=0, max_tries=NO_LIMIT)],  # type: ignore[arg-type]
            redis_pool=pool,
            queue_name=queue,
            max_jobs=max_jobs,
            job_timeout=NO_TIMEOUT_S,
            keep_result=0,
            poll_delay=POLL_S,
            handle_signals=False,
            health_check_interval=HEALTH_EVERY_S,
            job_serializer=encode_job,
            job_deserializer=decode_job,
            log_results=False,
        )
        self._execute_run = execute_run
        self._doorbell = doorbell
        self._rung = asyncio.Event()
        self._has_more = False  # as far as the last look could tell
        self._unanswered: set[str] = set()
        self._numbers = itertools.count()

    def hear(self, _payload: bytes | None) -> None:
        """Look at the queue now: the doorbell rang."""
        self._rung.set()

    def start_without_doorbell(self, rings: Iterable[Ring]) -> None:
        """Start these as far as there is room: for when Redis is away."""
        for ring in rings:
            if self.allow_pick_jobs and len(self.tasks) < self.max_jobs and ring.job_id not in self._unanswered:
                self._start(ring.job_id)

    async def drain(self, seconds: float) -> None:
        """Take no more jobs, and give those that were taken time to end."""
        self.allow_pick_jobs = False
        if self.tasks:
            await asyncio.wait(self.tasks.values(), timeout=seconds)

    async def main(self) -> None:
        """Poll when rung, when a job ends and more may wait, and every `POLL_S`; for ever."""
        while True:
            self._rung.clear()
            try:
                await self._poll_iteration()
            except REDIS_FAULTS as error:
                log.warning("queue is away, trying again", error=type(error).__name__)
                await asyncio.sleep(PAUSE_S)
            except Exception:
                log.exception("queue was not read, trying again")
                await asyncio.sleep(PAUSE_S)
            await tasks.set_within(self._rung, self.poll_delay_s)

    async def _poll_iteration(self) -> None:
        room = self.max_jobs - len(self.tasks)
        taken = await self._doorbell.take(room) if self.allow_pick_jobs and room > 0 else []
        for job_id in taken:
            self._start(job_id)
        self._has_more = len(taken) >= room
        await self.heart_beat()

    def _start(self, job_id: str) -> None:
        """Start a job; one that is rung again may still execute another run, so its id does not name the task."""
        self._unanswered.add(job_id)
        name = f"{job_id}:{next(self._numbers)}"
        task = asyncio.get_running_loop().create_task(self._run(job_id))
        self.tasks[name] = task
        task.add_done_callback(lambda _task: self._end(name, job_id))

    async def _run(self, job_id: str) -> None:
        await self._execute_run(self.ctx | {"job_id": job_id, "answered": lambda: self._unanswered.discard(job_id)})

    def _end(self, name: str, job_id: str) -> None:
        self.tasks.pop(name, None)
        self._unanswered.discard(job_id)
        if self._has_more:  # let more slots become free: one claim for many runs is far cheaper than one for each
            self._has_more = False
            asyncio.get_running_loop().call_later(REFILL_AFTER_S, self._rung.set)
