"""What the runner tells the database, in one commit for many runs, when one of them is not its own any more."""

import asyncio
import uuid

import pytest

from runner.recorder import Page, Recorder
from schemas.clock import DatabaseClock
from schemas.errors import LeaseLost
from schemas.outputs import Output
from schemas.pipelines import Block, Definition, Graph
from schemas.queue import Doorbell, Ring, connect
from schemas.runs import Claimed, Trigger
from schemas.states import BlockState, LogLevel, RunState
from schemas.store import leases, pipelines, runs
from schemas.store.db import Database
from tests.system import free_port

DEFINITION = Definition(id="p", path="p.py", version="v1", graph=Graph((Block(id="b"),)))


@pytest.fixture
async def recorder(db: Database) -> Recorder:
    await pipelines.publish(db, [DEFINITION])
    redis = connect(f"redis://127.0.0.1:{free_port()}")  # nobody listens: telling watchers is not what is tested
    return Recorder(db, Doorbell(redis, prefix="test"), clock=DatabaseClock())


async def claim(db: Database, ring: Ring) -> tuple[uuid.UUID, Claimed]:
    runner_id = uuid.uuid4()
    await leases.register(db, runner_id, name="test", lease_s=60)
    [claimed] = await leases.claim(db, [ring], runner_id=runner_id, versions={"p": "v1"})
    return runner_id, claimed


async def new_ring(db: Database) -> Ring:
    return Ring(await runs.create(db, "p", Trigger()), 0)


def finish(page: Page) -> None:
    page.log("b", 1, level=LogLevel.INFO, message="a line", fields={})
    page.block("b", BlockState.SUCCESS, 1, output=Output(data=b"\xc0", size=1))
    page.run(RunState.SUCCESS, None)


async def test_what_several_runs_wrote_is_one_commit(db: Database, recorder: Recorder) -> None:
    pages = [recorder.page((await claim(db, await new_ring(db)))[1]) for _ in range(3)]
    for page in pages:
        finish(page)
    await asyncio.gather(*(page.commit() for page in pages))

    assert await db.fetchval("SELECT count(DISTINCT xid) FROM changes WHERE state = 'success'") == 1
    assert await db.fetchval("SELECT count(*) FROM runs WHERE state = 'success' AND seq = 5") == 3


async def test_who_lost_a_run_hears_it_and_the_others_of_the_commit_do_not(db: Database, recorder: Recorder) -> None:
    loser_id, lost = await claim(db, await new_ring(db))
    _, kept = await claim(db, await new_ring(db))
    await leases.reclaim(db, [loser_id])
    late, good = recorder.page(lost), recorder.page(kept)
    finish(late)
    finish(good)

    await good.commit()
    with pytest.raises(LeaseLost):
        await late.commit()


async def test_a_run_that_was_lost_and_claimed_again_by_the_same_process_is_written_by_its_new_page_alone(
    db: Database, recorder: Recorder
) -> None:
    """After an outage the line of the old claim may still wait when the new claim writes: both are in one commit."""
    first_id, before = await claim(db, await new_ring(db))
    [ring], _ = await leases.reclaim(db, [first_id])
    _, after = await claim(db, ring)
    late, good = recorder.page(before), recorder.page(after)
    late.log("b", 1, level=LogLevel.INFO, message="late", fields={})
    finish(good)

    await good.commit()
    with pytest.raises(LeaseLost):
        await late.commit()

    assert await db.fetchval("SELECT state FROM runs") == "success"
    assert await db.fetchval("SELECT array_agg(message) FROM logs") == ["a line"]
    history = await db.fetch("SELECT seq FROM changes UNION ALL SELECT seq FROM logs ORDER BY seq")
    assert [row["seq"] for row in history] == list(range(1, 8))
