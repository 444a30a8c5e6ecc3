"""Purges: what is old goes, what is active stays, deliveries are taken meanwhile, and kill -9 costs one step."""

import asyncio
import datetime as dt
import signal
import uuid

import asyncpg
import pytest

from gateway.bench.history import History, write
from schemas.errors import Unavailable
from schemas.ids import floor_of
from schemas.purges import Phase
from schemas.store import purges
from schemas.store.db import Database
from tests.faults import Connection, Crowd, assert_nothing_was_lost
from tests.problems import problem
from tests.system import Json, Penstock
from tests.waiting import eventually

DAYS = 4
LITTLE = History(runs=600, events=1200, days=8, pipelines=3)
MUCH = History(runs=12_000, events=12_000, days=8, pipelines=3)
TABLES = {"runs": "id", "events": "id", "changes": "run_id", "block_runs": "run_id"}


def ago(days: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=days)


async def snapshot(connection: Connection) -> dict[str, list[uuid.UUID]]:
    """Read the ids of all rows, since what counts as old is only known when a purge was asked for."""
    return {
        table: [row[0] for row in await connection.fetch(f"SELECT {column} FROM {table}")]
        for table, column in TABLES.items()
    }


def older(rows: dict[str, list[uuid.UUID]], purge: Json) -> dict[str, int]:
    """Count the rows that are older than the limit of a purge or a preview."""
    end = floor_of(dt.datetime.fromisoformat(purge["older_than"]))
    return {table: sum(found < end for found in ids) for table, ids in rows.items()}


async def ended(penstock: Penstock, purge: Json, *, within: float = 40) -> Json:
    """Wait until a purge is done, and read it."""

    async def is_done() -> Json | None:
        found: Json = (await penstock.client.get(f"/v1/purges/{purge['id']}")).json()
        return found if found["phase"] == "done" else None

    found: Json = await eventually(is_done, timeout=within)
    return found


async def revive(connection: Connection, *, older_than: int, count: int) -> list[uuid.UUID]:
    """Queue some old runs again, as those of a pipeline that was paused for long."""
    rows = await connection.fetch(
        """UPDATE runs SET state = 'queued', finished_at = NULL, error = NULL, marked_at = now()
           WHERE id IN (SELECT id FROM runs WHERE id < $1 AND event_id IS NOT NULL ORDER BY id DESC LIMIT $2)
           RETURNING id""",
        floor_of(ago(older_than)),
        count,
    )
    return [row["id"] for row in rows]


async def test_a_purge_deletes_what_is_old_and_nothing_that_is_active(
    penstock: Penstock, connection: Connection
) -> None:
    await write(connection, LITTLE)
    active = await revive(connection, older_than=6, count=3)
    await penstock.start()
    before = await snapshot(connection)

    answer = await penstock.client.post("/v1/purge", json={"days": DAYS, "dry_run": True})
    assert answer.status_code == 200, answer.text
    preview = answer.json()
    old = older(before, preview)
    assert min(old.values()) > 200
    assert (preview["days"], preview["runs"], preview["events"]) == (DAYS, old["runs"] - 3, old["events"])
    assert preview["bytes"] > 0
    assert await snapshot(connection) == before

    answer = await penstock.client.post("/v1/purge", json={"days": DAYS})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["requested_by"], answer.json()["is_automatic"]) == ("preset", False)
    done = await ended(penstock, answer.json())

    old, after = older(before, done), await snapshot(connection)
    kept = {"runs": 3, "events": 3, "changes": 9, "block_runs": 3}
    assert older(after, done) == kept
    assert {name: len(after[name]) - kept[name] for name in after} == {
        name: len(before[name]) - old[name] for name in before
    }
    assert (done["runs"], done["progress"]) == (old["runs"] - 3, 1.0)
    assert (done["events"], done["changes"]) == (old["events"] - 3, old["changes"] - 9)
    assert done["partitions"] >= 3 * 2
    for run_id in active:
        run = await penstock.run(str(run_id))
        assert (run["state"], run["event_variables"]["customer"]) == ("queued", "customer-0")
    assert (await penstock.client.get("/v1/purges")).json()["items"] == [done]
    (entry,) = (await penstock.client.get("/v1/audit")).json()["items"]
    assert (entry["action"], entry["subject"], entry["details"]) == (
        "purge.create", f"purge:{done['id']}", {"days": DAYS}
    )  # fmt: skip


async def test_a_purge_goes_on_after_kill_9_while_deliveries_are_taken(
    penstock: Penstock, connection: Connection
) -> None:
    await write(connection, MUCH)
    before = await snapshot(connection)
    _, victim = await penstock.start()
    hook = await penstock.hook("quick")

    async def is_under_way() -> bool:
        row = await connection.fetchrow("SELECT phase, runs_seen FROM purges")
        assert row["phase"] == "runs", "it was done before the runner could be killed"
        return row["runs_seen"] > 0

    async with Crowd(hook, per_second=40, senders=4) as crowd:
        await crowd.reached(5)
        purge = (await penstock.client.post("/v1/purge", json={"days": DAYS})).json()
        await eventually(is_under_way, timeout=20)
        await victim.end(signal.SIGKILL)
        await asyncio.gather(penstock.start_runner(), penstock.start_runner())
        done = await ended(penstock, purge)

    old = older(before, done)
    assert (done["runs"], done["events"], done["changes"]) == (old["runs"], old["events"], old["changes"])
    assert set(older(await snapshot(connection), done).values()) == {0}
    assert crowd.refusals == []
    await assert_nothing_was_lost(crowd, connection)


async def test_a_delivery_whose_run_was_purged_is_still_a_duplicate(penstock: Penstock, connection: Connection) -> None:
    await penstock.start()
    hook = await penstock.hook("quick")
    run = await penstock.ended(await penstock.delivered_run(hook, idempotency_key="once"))
    long_ago = floor_of(ago(90))
    await connection.execute("UPDATE events SET id = $1 WHERE id = $2", long_ago, uuid.UUID(run["event_id"]))
    await connection.execute("UPDATE event_keys SET event_id = $1", long_ago)
    await connection.execute("UPDATE runs SET id = $1, event_id = $1, finished_at = $2", long_ago, ago(90))

    await ended(penstock, (await penstock.client.post("/v1/purge", json={"days": 1})).json())

    answer = await penstock.deliver(hook, idempotency_key="once")
    assert (answer.status_code, answer.json()["status"], answer.json()["runs"]) == (200, "duplicate", [])
    assert await connection.fetchval("SELECT count(*) FROM runs") == 0


async def test_retention_purges_by_itself_once_a_day(penstock: Penstock, connection: Connection) -> None:
    await write(connection, LITTLE)
    await asyncio.gather(*(penstock.start_runner(retention_days=DAYS) for _ in range(2)))

    async def is_done() -> bool:
        return await connection.fetchval("SELECT bool_and(phase = 'done') FROM purges")

    await eventually(is_done, timeout=30)
    (row,) = await connection.fetch("SELECT days, requested_by, older_than::text FROM purges")
    assert (row["days"], row["requested_by"]) == (DAYS, "PENSTOCK_RETENTION_DAYS")
    assert set(older(await snapshot(connection), dict(row)).values()) == {0}
    assert (
        await purges.create(connection, DAYS, requested_by="again", automatic_on=dt.datetime.now(dt.UTC).date()) is None
    )


async def test_an_old_run_stays_as_long_as_one_that_came_of_it_is_active(db: Database, connection: Connection) -> None:
    await write(connection, LITTLE)
    parent = await connection.fetchval("SELECT id FROM runs WHERE id < $1 ORDER BY id LIMIT 1", floor_of(ago(DAYS)))
    child = await connection.fetchval(
        """INSERT INTO runs (id, pipeline_id, origin, parent_id, first_id)
           VALUES (gen_random_uuid(), 'x', 'resume', $1, $1)
           RETURNING id""",
        parent,
    )
    await purge_at_once(db)
    end = floor_of(ago(DAYS + 0.1))

    assert await connection.fetchval("SELECT array_agg(id) FROM runs WHERE id < $1", end) == [parent]
    await connection.execute("DELETE FROM runs WHERE id = $1", child)
    await purge_at_once(db)
    assert await connection.fetchval("SELECT count(*) FROM runs WHERE id < $1", end) == 0
    assert await connection.fetchval("SELECT count(*) FROM changes WHERE run_id < $1", end) == 0


async def test_a_partition_in_use_is_waited_for_in_short_tries(
    db: Database, connection: Connection, database_url: str
) -> None:
    """Whoever waits for a lock on all of `events` holds up every delivery behind it."""
    await write(connection, LITTLE)
    reader = await asyncpg.connect(database_url)
    await reader.execute("BEGIN; LOCK TABLE events, changes, logs IN ROW EXCLUSIVE MODE")
    purge_id = await purges.create(db, DAYS, requested_by="test")
    assert purge_id is not None

    while (await purges.get(db, purge_id)).phase is Phase.RUNS:
        await purges.step(db)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await purges.step(db)
    assert asyncio.get_running_loop().time() - begun < 1
    assert (await purges.get(db, purge_id)).phase is Phase.PARTITIONS

    await reader.close()
    await purge_at_once(db)
    assert (await purges.get(db, purge_id)).phase is Phase.DONE


async def test_files_that_could_not_be_deleted_are_tried_again(db: Database, connection: Connection) -> None:
    await write(connection, LITTLE)
    old = [
        f"runs/{row['run_id']}"
        for row in await connection.fetch(
            """INSERT INTO block_outputs (run_id, block_id, format, object)
               SELECT id, 'work', 'polars', 'runs/' || id FROM runs ORDER BY id LIMIT 2 RETURNING run_id"""
        )
    ]
    await purge_at_once(db)
    deleted: list[str] = []

    async def delete(prefix: str) -> None:
        if prefix.startswith("events/"):
            return
        if prefix == old[0] and not deleted.count(old[1]):
            raise OSError("the store is away")
        deleted.append(prefix)

    while await purges.delete_files(db, delete):
        pass
    assert deleted == [old[1]]
    await connection.execute("UPDATE discarded_objects SET next_attempt_at = now()")
    while await purges.delete_files(db, delete):
        pass
    assert deleted == [old[1], old[0]]
    assert await connection.fetchval("SELECT count(*) FROM discarded_objects") == 0


@pytest.mark.parametrize("body", [{"days": 0}, {"days": -1}, {"days": "30"}, {"days": 1.5}, {"older": 3}, [30]])
async def test_a_purge_says_what_it_takes(body: object, shared: Penstock) -> None:
    problem(await shared.client.post("/v1/purge", json=body), 422, "invalid")


async def test_a_purge_that_is_none_is_not_found(shared: Penstock) -> None:
    for name in (uuid.uuid4(), "1"):
        problem(await shared.client.get(f"/v1/purges/{name}"), 404, "not_found")


async def purge_at_once(db: Database) -> None:
    """Purge as the runners' housekeeping does, without its pauses."""
    await purges.create(db, DAYS, requested_by="test")
    while await purges.step(db) or await purges.drop_detached(db):
        pass
