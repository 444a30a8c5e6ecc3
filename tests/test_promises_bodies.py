"""G1, G3 and the purge for bodies in the object store: all or nothing, one of each, and gone when their event is."""

import asyncio
import datetime as dt
import signal
import uuid
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway import intake
from gateway.incoming import Incoming
from gateway.large_bodies import LargeBodies
from schemas.errors import Unavailable
from schemas.events import Delivery
from schemas.ids import floor_of, ids_at
from schemas.objects import ObjectStore, body_key
from schemas.settings import MAX_BODY_LIMIT
from schemas.store.db import Database
from tests.faults import Connection, all_ended, post
from tests.gateway.test_intake import GATE
from tests.large_bodies import LARGE, give_back, objects_in, take_away
from tests.problems import problem
from tests.system import Json, Penstock, free_port
from tests.waiting import eventually


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "store"


async def purged(penstock: Penstock) -> None:
    """Purge what is older than a day, with its files."""
    purge = (await penstock.client.post("/v1/purge", json={"days": 1})).json()

    async def is_done() -> bool:
        found: Json = (await penstock.client.get(f"/v1/purges/{purge['id']}")).json()
        return found["phase"] == "done"

    await eventually(is_done, timeout=20)


async def test_without_the_store_a_large_delivery_is_held_and_then_refused_whole(
    penstock: Penstock, connection: Connection, place: Path
) -> None:
    await penstock.start(store=place, hold_s=4)
    hook = await penstock.hook("quick")
    aside = take_away(place)

    refused = await penstock.deliver(hook, LARGE, idempotency_key="a")
    assert "retry-after" in refused.headers
    assert problem(refused, 503, "unavailable").startswith("The object store is away")
    assert (await penstock.deliver(hook, b"small")).status_code == 202  # whatever its neighbours wait for
    assert await connection.fetchval("SELECT count(*) FROM events WHERE size > 100") == 0

    held = asyncio.create_task(penstock.deliver(hook, LARGE, idempotency_key="a"))
    await asyncio.wait({held}, timeout=0.5)
    assert not held.done()
    give_back(place, aside)
    assert (await held).status_code == 202
    aside = take_away(place)
    assert (await penstock.deliver(hook, LARGE, idempotency_key="a")).json()["status"] == "duplicate"
    give_back(place, aside)
    assert len(objects_in(place)) == 1


async def test_a_gateway_that_is_killed_before_its_commit_leaves_an_object_that_goes_with_its_day(
    penstock: Penstock, connection: Connection, place: Path
) -> None:
    gateway, _ = await penstock.start(store=place)
    hook = await penstock.hook("quick")
    async with connection.transaction():
        await connection.execute("LOCK TABLE event_keys IN EXCLUSIVE MODE")  # may be read, and nobody commits
        sending = asyncio.create_task(penstock.deliver(hook, LARGE, idempotency_key="a"))
        await eventually(lambda: len(objects_in(place)) == 1, timeout=10)
        await gateway.end(signal.SIGKILL)
        await connection.execute(  # what waits for the lock would be committed although nobody hears of it
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'penstock gateway'"
        )
    assert isinstance((await asyncio.gather(sending, return_exceptions=True))[0], Exception)
    assert await connection.fetchval("SELECT count(*) FROM events") == 0

    await penstock.start_gateway(store=place)
    run = await penstock.ended(await penstock.delivered_run(hook, LARGE, idempotency_key="a"))
    (orphan,) = set(objects_in(place)) - {body_key(uuid.UUID(run["event_id"]))}

    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=3)
    await make_a_day(connection, long_ago)
    old = place / body_key(floor_of(long_ago))
    old.parent.mkdir(parents=True)
    (place / orphan).rename(old)
    await purged(penstock)
    await eventually(lambda: objects_in(place) == [body_key(uuid.UUID(run["event_id"]))], timeout=20)


async def make_a_day(connection: Connection, moment: dt.datetime) -> None:
    """Make the partition of events of a day that is over."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    first, end = floor_of(day), floor_of(day + dt.timedelta(days=1))
    name = f"events_{day:%Y%m%d}"
    await connection.execute(f"CREATE TABLE {name} PARTITION OF events FOR VALUES FROM ('{first}') TO ('{end}')")


@pytest.mark.parametrize("is_needed", [False, True])
async def test_a_purge_deletes_objects_with_their_events(
    is_needed: bool, penstock: Penstock, connection: Connection, place: Path
) -> None:
    """A day whose event is needed by an active run keeps its partition: then events go one by one."""
    await penstock.start(store=place)
    hook = await penstock.hook("quick")
    for _ in range(3):
        await penstock.ended(await penstock.delivered_run(hook, LARGE))
    newest, *others = [row["id"] for row in await connection.fetch("SELECT id FROM events ORDER BY id DESC")]
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=3)
    await make_a_day(connection, long_ago)
    needed, forgotten = ids_at(long_ago, 2)
    for event_id, old_id in zip(others, (needed, forgotten), strict=True):
        await make_old(connection, place, event_id, old_id)
    if is_needed:
        await connection.execute(
            """UPDATE runs SET pipeline_id = 'of_no_file', state = 'queued', finished_at = NULL, marked_at = now()
               WHERE event_id = $1""",
            needed,
        )
    kept = [newest, needed] if is_needed else [newest]

    await purged(penstock)

    await eventually(lambda: objects_in(place) == sorted(map(body_key, kept)), timeout=20)
    assert [row["id"] for row in await connection.fetch("SELECT id FROM events ORDER BY id DESC")] == kept
    for event_id in kept:
        assert (await penstock.client.get(f"/v1/events/{event_id}/body")).content == LARGE


async def make_old(connection: Connection, place: Path, event_id: uuid.UUID, old_id: uuid.UUID) -> None:
    """Let an event, its object and its run be as old as an id."""
    (place / body_key(old_id)).parent.mkdir(parents=True)
    (place / body_key(event_id)).rename(place / body_key(old_id))
    await connection.execute("UPDATE events SET id = $2, object = $3 WHERE id = $1", event_id, old_id, body_key(old_id))
    await connection.execute(
        "UPDATE runs SET id = $2, event_id = $2, finished_at = created_at - interval '2 days' WHERE event_id = $1",
        event_id,
        old_id,
    )


async def test_copies_of_a_large_delivery_over_two_gateways_make_one_run_and_one_object(
    penstock: Penstock, connection: Connection, place: Path
) -> None:
    other_port = free_port()
    await asyncio.gather(
        penstock.start_gateway(store=place),
        penstock.start_gateway(store=place, port=other_port),
        penstock.start_runner(store=place),
    )
    hook = await penstock.hook("quick")
    hooks = [hook, hook.replace(f":{penstock.port}/", f":{other_port}/")]

    answers = await asyncio.gather(*(post(hooks[n % 2], LARGE, idempotency_key="the-one") for n in range(20)))

    assert Counter(status for status, _ in answers) == {202: 1, 200: 19}
    (run_id,) = {run["id"] for _, answer in answers for run in answer["runs"]}
    kept = await connection.fetchval("SELECT object FROM events WHERE object IS NOT NULL")
    await eventually(lambda: objects_in(place) == [kept], timeout=10)
    written = (place / kept).stat().st_mtime_ns
    assert (await penstock.deliver(hook, LARGE, idempotency_key="the-one")).json()["runs"][0]["id"] == run_id

    other = LARGE.replace(b"1]", b"2]")
    differing = await penstock.deliver(hook, other, idempotency_key="the-one")
    assert differing.json()["reason"] == "another body came before with the same key"
    sample = await connection.fetchrow("SELECT id, object FROM events WHERE reason_code = 'different_body'")
    assert sample["object"] == body_key(sample["id"])
    assert (await penstock.client.get(f"/v1/events/{sample['id']}/body")).content == other
    assert objects_in(place) == sorted([kept, sample["object"]])
    assert (place / kept).stat().st_mtime_ns == written
    assert await all_ended(connection, within=10) == {"success": 1}


def largest_delivery() -> Delivery:
    incoming = Incoming({}, bytes(MAX_BODY_LIMIT))
    return intake.write_down(GATE, incoming, intake.assess(GATE, incoming))


async def test_no_more_large_bodies_are_held_than_memory_is_there_for(db: Database, place: Path) -> None:
    bodies = LargeBodies(db, ObjectStore(str(place)))
    until = asyncio.get_running_loop().time() + 30
    async with AsyncExitStack() as held:
        for _ in range(5):
            await held.enter_async_context(bodies.moved(largest_delivery(), until=until))
        with pytest.raises(Unavailable, match="Too much is waiting for the object store"):
            await held.enter_async_context(bodies.moved(largest_delivery(), until=until))
    async with bodies.moved(largest_delivery(), until=until):
        pass
    await eventually(lambda: objects_in(place) == [])
