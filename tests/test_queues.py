"""A queue says which runners take a run, and a run goes where its blocks want to execute."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from arq.connections import ArqRedis

from gateway.embedded import EmbeddedServers
from schemas.errors import SettingsError
from schemas.ids import new_id
from schemas.pipelines import Block, Definition, Graph
from schemas.queue import Doorbell, Ring, connect
from schemas.runs import Trigger
from schemas.settings import load
from schemas.store import leases, pipelines, runs
from schemas.store.db import Database
from tests.claiming import Yard
from tests.faults import Connection, all_ended, assert_history_is_whole, blocks_of, post, trigger
from tests.system import Penstock, Process, free_port
from tests.waiting import eventually


@pytest.fixture
def yard(db: Database) -> Yard:
    return Yard(db)


@pytest.fixture
async def redis(servers: EmbeddedServers) -> AsyncIterator[ArqRedis]:
    client = connect(servers.redis_url)
    yield client
    await client.aclose()


@pytest.mark.parametrize("queues", ["default", "gpu", "default,gpu", "a.b-c_1,2"])
def test_queues_are_names_with_commas_between(queues: str) -> None:
    assert load({"PENSTOCK_QUEUES": queues}).queues == queues


@pytest.mark.parametrize("queues", ["", "GPU", "gpu,", "gpu, cpu", "-gpu", "g" * 64])
def test_a_queue_that_cannot_be_one_stops_the_start(queues: str) -> None:
    with pytest.raises(SettingsError, match="PENSTOCK_QUEUES"):
        load({"PENSTOCK_QUEUES": queues})


async def test_a_ring_is_heard_by_those_who_serve_its_queue(redis: ArqRedis) -> None:
    prefix = f"test{uuid.uuid4().hex[:12]}"
    gpu, default = (Doorbell(redis, prefix=prefix, queues=[name]) for name in ("gpu", "default"))
    rings = [Ring(new_id(), 0, "lane", queue) for queue in ("gpu", "default", "gpu")]
    await gpu.ring_now(rings)
    assert await gpu.missing(rings) == []

    assert await gpu.take(10) == [rings[0].job_id, rings[2].job_id]
    assert await default.take(10) == [rings[1].job_id]
    assert await gpu.missing(rings) == rings


async def test_who_serves_several_queues_takes_from_each_and_as_much_as_there_is(redis: ArqRedis) -> None:
    doorbell = Doorbell(redis, prefix=f"test{uuid.uuid4().hex[:12]}", queues=["a", "b", "c"])
    rings = [Ring(new_id(), 0, queue, queue) for queue in ["a"] * 20 + ["c"] * 4]
    await doorbell.ring_now(rings)

    first = set(await doorbell.take(9))
    assert len(first) == 9
    assert {ring.queue for ring in rings if ring.job_id in first} == {"a", "c"}
    assert len(await doorbell.take(100)) == 15


@pytest.mark.parametrize("limit", [None, 2], ids=["unlimited", "limited"])
async def test_runs_of_a_queue_wait_for_those_who_serve_it(yard: Yard, limit: int | None) -> None:
    await yard.open(max_active_runs=limit)
    await yard.queue(queue="gpu")
    await yard.queue()

    assert await yard.due() == [1]
    assert await yard.due(queues=["gpu"]) == [0]
    assert await yard.due(queues=["gpu", "default"]) == [0, 1]
    assert await yard.claim(0, 1) == [1]
    assert await yard.claim(0, 1, queues=["gpu"]) == [0]


async def test_a_run_begins_in_the_queue_of_its_first_blocks(db: Database) -> None:
    both = Graph((Block(id="a", queue="gpu"), Block(id="b", queue="gpu"), Block(id="c", upstream=("a", "b"))))
    mixed = Graph((Block(id="a", queue="gpu"), Block(id="b")))
    definitions = [
        Definition(id=name, path=f"{name}.py", version="v", graph=graph, queue="big")
        for name, graph in (("both", both), ("mixed", mixed))
    ]
    await pipelines.publish(db, definitions)

    for name, queue in (("both", "gpu"), ("mixed", "big")):
        run = await runs.get(db, str(await runs.create(db, name, Trigger())), largest_body=0)
        assert run.queue == queue


async def test_only_its_owner_hands_a_run_over_and_that_is_no_attempt(yard: Yard, connection: Connection) -> None:
    await yard.open()
    await yard.queue()
    [run] = await yard.claimed(0)

    assert await leases.hand_over(yard.db, run.id, run.epoch - 1, queue="gpu") == []
    assert await leases.hand_over(yard.db, run.id, run.epoch, queue="gpu") == [Ring(run.id, 1, "p", "gpu")]
    assert await leases.hand_over(yard.db, run.id, run.epoch, queue="gpu") == []

    row = await runs.get(yard.db, str(run.id), largest_body=0)
    assert (row.state, row.queue, row.attempt) == ("queued", "gpu", 0)
    [again] = await yard.claimed(0, queues=["gpu"])
    assert (again.attempt, again.epoch) == (1, run.epoch + 2)
    await assert_history_is_whole(connection)


async def test_a_cancelled_run_is_not_handed_over(yard: Yard, connection: Connection) -> None:
    await yard.open()
    await yard.queue()
    [run] = await yard.claimed(0)
    await runs.cancel(yard.db, run.id)

    await leases.hand_over(yard.db, run.id, run.epoch, queue="gpu")

    assert (await runs.get(yard.db, str(run.id), largest_body=0)).state == "cancelled"
    await assert_history_is_whole(connection)


async def test_queues_that_nobody_serves_are_named(yard: Yard) -> None:
    await yard.open(graph={"blocks": [{"id": "a"}, {"id": "b", "queue": "gpu"}]})
    await yard.queue(queue="forgotten")
    assert await leases.find_unserved_queues(yard.db) == ["forgotten", "gpu"]

    await leases.register(yard.db, uuid.uuid4(), name="gpu", lease_s=60, queues=["gpu"])
    assert await leases.find_unserved_queues(yard.db) == ["forgotten"]


def diary(path: Path) -> list[str]:
    """Read what was executed, as `number-of-the-run block queues-of-the-runner`, in order."""
    return path.read_text().splitlines() if path.exists() else []


async def start_runner(penstock: Penstock, queues: str, **settings: object) -> Process:
    """Start a runner whose blocks find in WHERE which queues it serves."""
    penstock.environ["WHERE"] = queues
    return await penstock.start_runner(queues=queues, **settings)


async def test_two_gateways_and_three_runners_take_each_block_to_where_it_wants_to_execute(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    other = free_port()
    await asyncio.gather(
        start_runner(penstock, "default"),
        penstock.start_gateway(),
        penstock.start_gateway(port=other),
    )
    await start_runner(penstock, "default")
    await start_runner(penstock, "gpu")
    book = tmp_path / "diary"
    hook = await penstock.hook("crosses", variables={"diary": str(book), "seconds": 0})
    hooks = [hook, hook.replace(str(penstock.port), str(other))]

    answers = await asyncio.gather(*(post(hooks[nth % 2]) for nth in range(10)))

    assert {status for status, _ in answers} == {202}
    assert await all_ended(connection, within=40) == {"success": 10}
    lines = diary(book)
    assert sorted(lines) == sorted(
        f"{run} {block}" for run in range(1, 11) for block in ("before default", "middle gpu", "after default")
    )
    assert await connection.fetchval("SELECT max(attempt) FROM runs") == 1
    run = await penstock.run(answers[0][1]["runs"][0]["id"])
    assert (run["queue"], {block["attempt"] for block in run["block_runs"]}) == ("default", {1})
    await assert_history_is_whole(connection)


async def test_a_runner_of_both_queues_keeps_the_run(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    await asyncio.gather(penstock.start_gateway(), start_runner(penstock, "gpu,default"))
    run_ids = [await trigger(penstock, name) for name in ("crosses", "on_gpu", "begins_on_gpu")]

    assert [(await penstock.ended(run_id))["state"] for run_id in run_ids] == ["success"] * 3
    assert await connection.fetchval("SELECT max(epoch) FROM runs") == 1


async def test_a_run_that_was_handed_over_survives_the_death_of_its_next_owner(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    await asyncio.gather(penstock.start_gateway(), start_runner(penstock, "default"))
    victim = await start_runner(penstock, "gpu")
    book = tmp_path / "diary"
    run_id = await trigger(penstock, "crosses", diary=str(book), seconds=1)

    await eventually(lambda: len(diary(book)) == 2, timeout=20)
    await victim.end(signal.SIGKILL)
    await start_runner(penstock, "gpu")

    run = await penstock.ended(run_id, timeout=30)
    assert (run["state"], run["attempt"]) == ("success", 2)
    assert [line.split()[1] for line in diary(book)] == ["before", "middle", "middle", "after"]
    await assert_history_is_whole(connection)


async def test_under_a_limit_a_run_that_changes_its_owner_is_not_overtaken(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    await asyncio.gather(penstock.start_gateway(), start_runner(penstock, "default"))
    await start_runner(penstock, "gpu")
    book = tmp_path / "diary"
    for _ in range(3):
        await trigger(penstock, "crosses_alone", diary=str(book), seconds=0.05)

    assert await all_ended(connection, within=30) == {"success": 3}
    assert [line.rsplit(" ", 1)[0] for line in diary(book)] == [
        f"{run} {block}" for run in (1, 2, 3) for block in ("before", "middle", "after")
    ]


async def test_a_run_that_nobody_serves_waits_where_it_can_be_seen_and_cancelled(
    penstock: Penstock, connection: Connection
) -> None:
    await penstock.start()
    waiting, handed_over, doomed = [await trigger(penstock, name) for name in ("on_gpu", "crosses", "crosses")]

    async def is_handed_over() -> bool:
        run = await penstock.run(handed_over)
        return (run["state"], run["queue"]) == ("queued", "gpu")

    await eventually(is_handed_over, timeout=20)
    assert ((await penstock.run(waiting))["state"], (await penstock.run(waiting))["queue"]) == ("queued", "gpu")
    blocks = await blocks_of(penstock, handed_over)
    assert {name: block["state"] for name, block in blocks.items()} == {
        "before": "success",
        "middle": "pending",
        "after": "pending",
    }
    assert (await penstock.client.post(f"/v1/runs/{doomed}/cancel")).status_code == 202
    await start_runner(penstock, "gpu")
    states = [(await penstock.ended(run_id))["state"] for run_id in (waiting, handed_over, doomed)]
    assert states == ["success", "success", "cancelled"]
    await assert_history_is_whole(connection)
