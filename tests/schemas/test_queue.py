"""The doorbell on a real Redis: what rings is heard in a fair order, and a Redis that is away harms nobody."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job, JobStatus

from gateway.embedded import EmbeddedServers
from schemas.changes import Channels, unpack
from schemas.ids import new_id
from schemas.queue import JOB_NAME, REDIS_FAULTS, Doorbell, Ring, connect, decode_job, queue_name
from tests.system import free_port
from tests.waiting import eventually


@pytest.fixture
def prefix() -> str:
    return f"test{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def redis(servers: EmbeddedServers) -> AsyncIterator[ArqRedis]:
    client = connect(servers.redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def doorbell(redis: ArqRedis, prefix: str) -> Doorbell:
    return Doorbell(redis, prefix=prefix)


@pytest.fixture
async def away() -> AsyncIterator[Doorbell]:
    client = connect(f"redis://127.0.0.1:{free_port()}")
    yield Doorbell(client, prefix="away")
    await client.aclose()


def rings(count: int, lane: str = "lane", *, dispatch: int = 0) -> list[Ring]:
    return [Ring(new_id(), dispatch, lane) for _ in range(count)]


def test_a_job_id_is_read_back_as_the_ring_that_it_was() -> None:
    ring = Ring(uuid.uuid4(), 12)

    assert Ring.parse(ring.job_id) == ring


@pytest.mark.parametrize("job_id", ["", "cron:job", "0198f0a0000070008000000000000001", "x:1", "�:0"])
def test_a_job_of_somebody_else_is_no_ring(job_id: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Ring.parse(job_id)


async def test_what_rang_is_taken_once_and_in_order(doorbell: Doorbell) -> None:
    rung = rings(5)
    await doorbell.ring_now(rung)

    assert await doorbell.take(3) == [ring.job_id for ring in rung[:3]]
    assert await doorbell.take(10) == [ring.job_id for ring in rung[3:]]
    assert await doorbell.take(10) == []


async def test_one_busy_lane_does_not_hold_up_the_others(doorbell: Doorbell) -> None:
    busy, quiet = rings(400, "busy"), rings(1, "quiet")
    await doorbell.ring_now(busy)
    await doorbell.ring_now(quiet)

    taken = await doorbell.take(100)

    assert quiet[0].job_id in taken[:50]


async def test_busy_lanes_take_turns(doorbell: Doorbell) -> None:
    first, second = rings(50, "first"), rings(50, "second")
    await doorbell.ring_now([*first, *second])

    taken = set(await doorbell.take(50))

    assert 20 <= len(taken & {ring.job_id for ring in first}) <= 30


async def test_a_lane_that_fell_silent_has_no_debt(doorbell: Doorbell, redis: ArqRedis, prefix: str) -> None:
    await doorbell.ring_now(rings(2, "lane"))

    left_ms = await redis.pttl(f"{prefix}:lane:lane")

    assert 0 < left_ms <= 1_100


async def test_ringing_twice_is_heard_once(doorbell: Doorbell) -> None:
    rung = rings(3)
    await doorbell.ring_now(rung)
    await doorbell.ring_now(rung)

    assert sorted(await doorbell.take(10)) == sorted(ring.job_id for ring in rung)


async def test_rings_of_one_moment_are_sent_together_and_only_the_newest_of_a_run(doorbell: Doorbell) -> None:
    run = new_id()
    doorbell.ring([Ring(run, 0, "lane")])
    doorbell.ring([Ring(run, 1, "lane"), *rings(2)])
    await doorbell.flush()

    taken = await doorbell.take(10)

    assert len(taken) == 3
    assert Ring(run, 1).job_id in taken


async def test_very_many_are_rung_and_taken(doorbell: Doorbell) -> None:
    rung = rings(9_000, "lane")
    await doorbell.ring_now(rung)

    assert len(await doorbell.take(10_000)) == 9_000


async def test_what_redis_does_not_know_is_missing(doorbell: Doorbell, redis: ArqRedis, prefix: str) -> None:
    rung, never = rings(3), rings(2)
    await doorbell.ring_now(rung)
    assert await doorbell.missing([*never, *rung]) == never

    await redis.delete(queue_name(prefix))

    assert await doorbell.missing(rung) == rung


async def test_a_job_that_waits_can_be_read_by_arqs_own_tools(doorbell: Doorbell, redis: ArqRedis, prefix: str) -> None:
    ring = rings(1)[0]
    await doorbell.ring_now([ring])
    job = Job(ring.job_id, redis, _queue_name=queue_name(prefix), _deserializer=decode_job)

    info = await job.info()

    assert info is not None
    assert (info.function, info.args, info.kwargs, info.job_try) == (JOB_NAME, [], {}, None)
    assert await job.status() in (JobStatus.queued, JobStatus.deferred)


async def test_a_job_that_was_taken_leaves_no_key(doorbell: Doorbell, redis: ArqRedis, prefix: str) -> None:
    ring = rings(1)[0]
    await doorbell.ring_now([ring])
    await doorbell.take(1)
    job = Job(ring.job_id, redis, _queue_name=queue_name(prefix), _deserializer=decode_job)

    assert await job.status() is JobStatus.not_found
    assert await redis.exists(f"arq:job:{ring.job_id}") == 0


async def test_ringing_wakes_the_runners_and_tells_the_watchers(
    doorbell: Doorbell, redis: ArqRedis, prefix: str
) -> None:
    channels = Channels(prefix)
    async with redis.pubsub() as subscription:
        await subscription.subscribe(channels.wake, channels.changes)
        rung = rings(2)
        doorbell.ring(rung)

        heard: dict[str, bytes] = {}
        while len(heard) < 2:
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is not None:
                heard[message["channel"].decode()] = message["data"]

    assert heard[channels.wake] == b""
    assert unpack(heard[channels.changes]) == [ring.run_id for ring in rung]


async def test_news_are_told_once_however_often_they_were_noted(
    doorbell: Doorbell, redis: ArqRedis, prefix: str
) -> None:
    run = new_id()
    async with redis.pubsub() as subscription:
        await subscription.subscribe(Channels(prefix).changes)
        doorbell.tell([run])
        doorbell.tell([run])
        await doorbell.flush()
        await doorbell.announce(Channels(prefix).changes)

        heard = []
        while not heard or heard[-1] != b"":
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is not None:
                heard.append(message["data"])

    assert heard == [run.bytes, b""]


async def test_without_redis_ringing_makes_nobody_wait_and_is_noted(away: Doorbell) -> None:
    away.ring(rings(3))
    away.tell([new_id()])
    await eventually(lambda: not away.is_healthy)

    await asyncio.wait_for(away.announce("a channel"), 2)
    await asyncio.wait_for(away.flush(), 10)


async def test_without_redis_whoever_needs_the_answer_is_told(away: Doorbell) -> None:
    with pytest.raises(REDIS_FAULTS):
        await away.ring_now(rings(1))
    with pytest.raises(REDIS_FAULTS):
        await away.take(1)
    with pytest.raises(REDIS_FAULTS):
        await away.missing(rings(1))


async def test_the_doorbell_is_healthy_again_after_it_rang(doorbell: Doorbell) -> None:
    doorbell.is_healthy = False

    doorbell.ring(rings(1))
    await doorbell.flush()

    assert doorbell.is_healthy
