"""Runs that are named by the moment of their call."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest

from gateway.embedded import EmbeddedServers
from gateway.runs import MOST_NAMESAKES, Runs
from gateway.urls import Urls
from schemas import queue
from schemas.errors import Conflict, NotFound, Unavailable
from schemas.queue import Doorbell
from schemas.runs import Trigger
from schemas.settings import Settings
from schemas.states import OnPaused, RunState
from schemas.store.db import Database
from tests.claiming import PIPELINE, Yard

MOMENT = dt.datetime(2024, 12, 18, 10, 30, tzinfo=dt.UTC)


@pytest.fixture
async def runs(db: Database, servers: EmbeddedServers) -> AsyncIterator[Runs]:
    redis = queue.connect(servers.redis_url)
    yield Runs(db, Doorbell(redis, prefix="named-by-the-moment"), urls=Urls(Settings()))
    await redis.aclose()


async def test_calls_of_one_moment_get_keys_of_their_own(runs: Runs, db: Database) -> None:
    await Yard(db).open()

    made = await asyncio.gather(*(runs.trigger_at(MOMENT, PIPELINE, Trigger()) for _ in range(MOST_NAMESAKES)))

    assert sorted(str(run.run_key) for run in made) == [
        f"manual__2024-12-18T10:30:00.{microsecond:06}+00:00" for microsecond in range(MOST_NAMESAKES)
    ]
    for run in made:
        assert (await runs.in_pipeline(PIPELINE, str(run.run_key))).id == run.id
    with pytest.raises(Unavailable):
        await runs.trigger_at(MOMENT, PIPELINE, Trigger())


async def test_a_call_is_named_by_its_moment(runs: Runs, db: Database) -> None:
    await Yard(db).open()

    run = await runs.trigger_now(PIPELINE, Trigger(note="by hand"))

    named = dt.datetime.fromisoformat(str(run.run_key).removeprefix("manual__"))
    assert abs(run.created_at - named) < dt.timedelta(seconds=5)
    assert run.note == "by hand"


async def test_a_paused_pipeline_takes_a_call_as_its_product_does(runs: Runs, db: Database) -> None:
    await Yard(db).open(is_paused=True, on_paused="reject")

    with pytest.raises(Conflict) as refused:
        await runs.trigger_now(PIPELINE, Trigger())
    assert refused.value.extra == {"is_paused": True}
    queued = await runs.trigger_now(PIPELINE, Trigger(), on_paused=OnPaused.QUEUE)

    assert queued.state is RunState.QUEUED
    with pytest.raises(NotFound):
        await runs.trigger_now("nobody's", Trigger())
