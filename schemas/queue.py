"""The doorbell: one arq job per queued run, which carries the run's id and its dispatch number and nothing else.

Redis may lose it at any time; the sweeper rings again. Together with `runner/worker.py` this is all that knows arq,
whose keys are kept (`<prefix>:queue`, `arq:job:<id>`) so that its own tools still work. Each queue is one of arq's.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, cast

import msgspec
import structlog
from arq.connections import ArqRedis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from schemas.changes import Channels, pack
from schemas.pipelines import DEFAULT_QUEUE

log = structlog.get_logger()

JOB_NAME = "execute_run"
JOB_TTL_MS = 24 * 3600 * 1000
RING_CHUNK = 256
RING_TIMEOUT_S = 2.0  # nobody waits for it
ANNOUNCE_TIMEOUT_S = 0.5  # whoever cancels waits for it
PAUSE_AFTER_FAILURE_S = 0.5
LANE_STEP_MS = 10

REDIS_FAULTS = (RedisError, OSError, TimeoutError)

# Fair queueing in one call for a whole batch: each lane (a schedule) has a tag that runs ahead of the clock while the
# lane is busy, so that a thousand runs of one schedule do not stand before the one run of another.
_RING = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local scored = {}
for i = 5, #ARGV, 2 do
  local lane = KEYS[2] .. ARGV[i + 1]
  local tag = math.max(tonumber(redis.call('GET', lane) or 0), now)
  redis.call('SET', lane, tag + ARGV[3], 'PX', tag + ARGV[3] - now + 1000)
  redis.call('SET', 'arq:job:' .. ARGV[i], ARGV[1], 'PX', ARGV[2])
  scored[#scored + 1] = tag
  scored[#scored + 1] = ARGV[i]
end
redis.call('ZADD', KEYS[1], 'NX', unpack(scored))
redis.call('PUBLISH', KEYS[3], '')
redis.call('PUBLISH', KEYS[4], ARGV[4])
"""

# A job is gone once it was heard: from then on Postgres alone knows where the run stands. Each queue gives its share,
# then those that have more fill up what the others left.
_TAKE = """
local ids = {}
local left = tonumber(ARGV[1])
for round = 1, 2 do
  for i = 1, #KEYS do
    local share = round == 1 and math.ceil(left / (#KEYS - i + 1)) or left
    local taken = share > 0 and redis.call('ZPOPMIN', KEYS[i], share) or {}
    for j = 1, #taken, 2 do
      ids[#ids + 1] = taken[j]
      redis.call('DEL', 'arq:job:' .. taken[j])
      left = left - 1
    end
  end
end
return ids
"""


class Ring(msgspec.Struct, frozen=True):
    """One ring: for which run, the how-manieth, in whose lane it waits, and in which queue."""

    run_id: uuid.UUID
    dispatch: int
    lane: str = ""
    queue: str = DEFAULT_QUEUE

    @property
    def job_id(self) -> str:
        return f"{self.run_id.hex}:{self.dispatch}"

    @classmethod
    def parse(cls, job_id: str) -> "Ring":
        """Read a job id back; raises ValueError when it is none of ours."""
        run_id, _, dispatch = job_id.partition(":")
        return cls(uuid.UUID(hex=run_id), int(dispatch))


def connect(url: str, *, patient: bool = False) -> ArqRedis:
    """Open a client that outlives restarts of Redis and fails fast, since nobody waits for the doorbell.

    A listener's is patient: it waits for as long as nothing happens.
    """
    redis: ArqRedis = ArqRedis.from_url(
        url,
        socket_connect_timeout=1,
        socket_timeout=None if patient else 2,
        max_connections=32,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), 3),
        retry_on_error=[RedisConnectionError, RedisTimeoutError, OSError],
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
    )
    return redis


def queue_name(prefix: str, queue: str = DEFAULT_QUEUE) -> str:
    """Name the sorted set that is the arq queue of one of our queues."""
    return f"{prefix}:queue" if queue == DEFAULT_QUEUE else f"{prefix}:queue:{queue}"


encode_job: Callable[[dict[str, Any]], bytes] = msgspec.msgpack.Encoder(enc_hook=repr).encode
decode_job: Callable[[bytes], dict[str, Any]] = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Doorbell:
    """Rings for runs without making anyone wait: rings collect while the previous call is under way.

    Only a runner takes jobs, of the `queues` that it serves.
    """

    def __init__(self, redis: ArqRedis, *, prefix: str, queues: Collection[str] = (DEFAULT_QUEUE,)) -> None:
        self._redis = redis
        self._prefix = prefix
        self._served = [queue_name(prefix, queue) for queue in queues]
        self._channels = Channels(prefix)
        self._ring_script = redis.register_script(_RING)
        self._take_script = redis.register_script(_TAKE)
        self._keys = [f"{prefix}:lane:", self._channels.wake, self._channels.changes]
        self._job = encode_job({"t": None, "f": JOB_NAME, "a": (), "k": {}, "et": 0})
        self._waiting: dict[uuid.UUID, Ring] = {}
        self._news: set[uuid.UUID] = set()
        self._ringing: asyncio.Task[None] | None = None
        self.is_healthy = True

    def ring(self, rings: Iterable[Ring]) -> None:
        """Ring soon; a failure is only noted, the sweeper will find the runs in Postgres."""
        self._waiting.update((ring.run_id, ring) for ring in rings)
        if self._waiting and self._ringing is None:
            self._ringing = asyncio.get_running_loop().create_task(self._ring_all())

    def tell(self, run_ids: Iterable[uuid.UUID]) -> None:
        """Tell watchers soon that these runs have changes; a failure only costs them a moment."""
        self._news.update(run_ids)
        if self._news and self._ringing is None:
            self._ringing = asyncio.get_running_loop().create_task(self._ring_all())

    async def flush(self) -> None:
        """Wait until everything rung so far was sent or given up."""
        if self._ringing is not None:
            await asyncio.wait({self._ringing})

    async def ring_now(self, rings: Sequence[Ring]) -> None:
        """Ring and wait for it; raises one of REDIS_FAULTS."""
        by_queue: dict[str, list[Ring]] = {}
        for ring in rings:
            by_queue.setdefault(ring.queue, []).append(ring)
        for queue, rung in by_queue.items():
            for start in range(0, len(rung), RING_CHUNK):
                await self._ring_chunk(queue_name(self._prefix, queue), rung[start : start + RING_CHUNK])

    async def missing(self, rings: Sequence[Ring]) -> list[Ring]:
        """Find those that Redis does not know; raises one of REDIS_FAULTS."""
        pipeline = self._redis.pipeline(transaction=False)
        for ring in rings:
            pipeline.zscore(queue_name(self._prefix, ring.queue), ring.job_id)
        scores = await pipeline.execute()
        return [ring for ring, score in zip(rings, scores, strict=True) if score is None]

    async def take(self, count: int) -> list[str]:
        """Take the next job ids off the served queues, fairest first; raises one of REDIS_FAULTS."""
        taken = await cast("Awaitable[list[bytes]]", self._take_script(keys=self._served, args=[count]))
        return [job_id.decode(errors="replace") for job_id in taken]

    async def announce(self, channel: str, run_ids: Iterable[uuid.UUID] = ()) -> None:
        """Say on a channel that something is new; a failure is only noted."""
        with contextlib.suppress(*REDIS_FAULTS):
            async with asyncio.timeout(ANNOUNCE_TIMEOUT_S):
                await self._redis.publish(channel, pack(run_ids))

    async def _ring_chunk(self, queue: str, rings: Sequence[Ring]) -> None:
        names: list[str] = []
        for ring in rings:
            names += (ring.job_id, ring.lane)
        news = pack(ring.run_id for ring in rings)
        await self._ring_script(keys=[queue, *self._keys], args=[self._job, JOB_TTL_MS, LANE_STEP_MS, news, *names])

    async def _ring_all(self) -> None:
        try:
            await asyncio.sleep(0)  # whoever waits for an answer goes first
            while self._waiting or self._news:
                rings, self._waiting = list(self._waiting.values()), {}
                news, self._news = self._news, set()
                if rings:
                    await self._ring_or_note(rings)
                if news:
                    await self.announce(self._channels.changes, news)
        finally:
            self._ringing = None

    async def _ring_or_note(self, rings: Sequence[Ring]) -> None:
        try:
            async with asyncio.timeout(RING_TIMEOUT_S):
                await self.ring_now(rings)
        except REDIS_FAULTS as error:
            if self.is_healthy:
                log.warning("doorbell is away, the sweeper will ring", error=type(error).__name__)
            self.is_healthy = False
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        else:
            self.is_healthy = True
