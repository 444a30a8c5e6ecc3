"""Backfills: each logical date once, in order, never more at a time than allowed, whatever dies meanwhile."""

import asyncio
import datetime as dt
import signal
import time
from pathlib import Path
from typing import Any

from tests.faults import Connection, all_ended, assert_history_is_whole, diary_of
from tests.system import Json, Penstock, Process
from tests.waiting import eventually

MONTH = {"start": "2024-01-01", "end": "2024-01-31"}
MOST_ACTIVE = """
    SELECT coalesce(max(active), 0) FROM (
        SELECT sum(step) OVER (ORDER BY at, step) AS active
        FROM (SELECT started_at AS at, 1 AS step FROM runs WHERE backfill_id = $1 AND started_at IS NOT NULL
              UNION ALL
              SELECT finished_at, -1 FROM runs WHERE backfill_id = $1 AND started_at IS NOT NULL) moments) sums
"""


async def create(penstock: Penstock, pipeline_id: str = "quick", **body: Any) -> Json:
    answer = await penstock.client.post(f"/v1/pipelines/{pipeline_id}/backfills", json=body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def read(penstock: Penstock, backfill: Json) -> Json:
    return dict((await penstock.client.get(f"/v1/backfills/{backfill['id']}")).json())


async def reached(penstock: Penstock, backfill: Json, *, success: int) -> Json:
    """Wait until so many runs have succeeded."""

    async def progress() -> Json | None:
        now = await read(penstock, backfill)
        return now if now["success"] >= success else None

    return dict(await eventually(progress, timeout=30))


async def dates_in_the_order_of_starts(connection: Connection, backfill: Json) -> list[dt.datetime]:
    rows = await connection.fetch(
        "SELECT logical_date FROM runs WHERE backfill_id = $1 ORDER BY started_at", backfill["id"]
    )
    return [row["logical_date"] for row in rows]


async def test_dates_run_in_order_and_one_at_a_time(penstock: Penstock, connection: Connection) -> None:
    await penstock.start()

    backfill = await create(penstock, **MONTH)
    done = await reached(penstock, backfill, success=31)

    assert (done["state"], done["total"], done["queued"], done["running"], done["failed"]) == ("completed", 31, 0, 0, 0)
    dates = await dates_in_the_order_of_starts(connection, backfill)
    assert dates == [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in range(1, 32)]
    assert await connection.fetchval(MOST_ACTIVE, backfill["id"]) == 1
    await assert_history_is_whole(connection)


async def test_the_limit_is_never_exceeded_by_several_runners_and_may_be_changed(
    penstock: Penstock, connection: Connection
) -> None:
    await asyncio.gather(penstock.start(), penstock.start_runner())
    backfill = await create(penstock, "steps", **MONTH, max_active_runs=3, variables={"seconds": 0.01})

    await reached(penstock, backfill, success=10)
    assert await connection.fetchval(MOST_ACTIVE, backfill["id"]) == 3
    await penstock.client.patch(f"/v1/backfills/{backfill['id']}", json={"max_active_runs": 6})
    assert (await reached(penstock, backfill, success=31))["state"] == "completed"

    assert 3 < await connection.fetchval(MOST_ACTIVE, backfill["id"]) <= 6
    dates = await dates_in_the_order_of_starts(connection, backfill)
    assert all(abs(place - date.day) < 6 for place, date in enumerate(dates, 1))


async def test_a_backfill_does_not_starve_deliveries_of_the_same_pipeline(penstock: Penstock) -> None:
    await penstock.start()
    hook = await penstock.hook("steps", variables={"seconds": 0.01})
    backfill = await create(
        penstock, "steps", start="2020-01-01", end="2024-12-31", variables={"seconds": 0.05}, max_active_runs=2
    )

    run_id = await penstock.delivered_run(hook)

    assert (await penstock.ended(run_id, timeout=10))["state"] == "success"
    assert (await read(penstock, backfill))["state"] == "running"
    await penstock.client.post(f"/v1/backfills/{backfill['id']}/cancel")


async def test_a_runner_that_is_killed_in_the_middle_costs_no_date_and_repeats_none(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, runner = await penstock.start(lease_s=2.0, heartbeat_s=0.2)
    diary = tmp_path / "diary"
    backfill = await create(
        penstock, "steps", **MONTH, max_active_runs=2, variables={"seconds": 0.02, "diary": str(diary)}
    )

    await reached(penstock, backfill, success=5)
    await runner.end(signal.SIGKILL)
    await penstock.start_runner(lease_s=2.0, heartbeat_s=0.2)
    done = await reached(penstock, backfill, success=31)

    assert (done["state"], done["success"]) == ("completed", 31)
    assert await connection.fetchval(MOST_ACTIVE, backfill["id"]) == 2
    dates = await dates_in_the_order_of_starts(connection, backfill)
    assert len(set(dates)) == 31
    assert 31 <= len([step for step in diary_of(diary) if step[0] == 5]) <= 33  # but what two runs were at may repeat
    await assert_history_is_whole(connection)


async def test_a_gateway_that_is_killed_while_it_creates_leaves_all_or_nothing(
    penstock: Penstock, connection: Connection
) -> None:
    asked = {"start": "2023-01-01", "end": "2023-03-31", "every": "hour"}
    for patience in (0.05, 0.3):
        gateway = await started_gateway(penstock)
        request = asyncio.create_task(penstock.client.post("/v1/pipelines/quick/backfills", json=asked))
        await asyncio.wait({request}, timeout=patience)
        await gateway.end(signal.SIGKILL)
        await asyncio.gather(request, return_exceptions=True)

        await no_other_sessions(connection)
        backfills = await connection.fetchval("SELECT count(*) FROM backfills")
        runs = await connection.fetchval("SELECT count(*) FROM runs")
        changes = await connection.fetchval("SELECT count(*) FROM changes")
        assert (runs, changes) == (backfills * 90 * 24, backfills * 90 * 24)

    await started_gateway(penstock)
    answer = await penstock.client.post("/v1/pipelines/quick/backfills", json=asked)
    assert answer.json()["total"] == 90 * 24
    assert await connection.fetchval("SELECT count(*) FROM backfills") == 1
    assert await connection.fetchval("SELECT count(*) FROM runs") == 90 * 24


async def test_the_same_request_at_the_same_time_makes_one_backfill(penstock: Penstock, connection: Connection) -> None:
    await started_gateway(penstock)

    answers = await asyncio.gather(
        *(penstock.client.post("/v1/pipelines/quick/backfills", json=MONTH) for _ in range(8))
    )

    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await connection.fetchval("SELECT count(*) FROM runs") == 31


async def test_a_pause_lets_what_runs_end_and_nothing_begin(penstock: Penstock, connection: Connection) -> None:
    await penstock.start()
    backfill = await create(penstock, "steps", **MONTH, max_active_runs=2, variables={"seconds": 0.02})
    await reached(penstock, backfill, success=4)

    paused = (await penstock.client.post(f"/v1/backfills/{backfill['id']}/pause")).json()
    assert paused["state"] == "paused"

    async def is_quiet() -> bool:
        return bool((await read(penstock, backfill))["running"] == 0)

    hook = await penstock.hook("quick")
    await penstock.ended(await penstock.delivered_run(hook))  # what was being claimed at that moment has begun by now
    await eventually(is_quiet, timeout=10)
    quiet = await read(penstock, backfill)
    await penstock.ended(await penstock.delivered_run(hook))  # others go on, and time passes
    assert await read(penstock, backfill) == quiet
    assert (quiet["queued"], quiet["failed"], quiet["cancelled"]) == (31 - quiet["success"], 0, 0)

    await penstock.client.post(f"/v1/backfills/{backfill['id']}/unpause")
    assert (await reached(penstock, backfill, success=31))["state"] == "completed"
    assert await connection.fetchval(MOST_ACTIVE, backfill["id"]) == 2


async def test_a_cancelled_backfill_ends_in_the_middle(penstock: Penstock, connection: Connection) -> None:
    await penstock.start()
    backfill = await create(penstock, "steps", **MONTH, max_active_runs=2, variables={"seconds": 0.1})
    await reached(penstock, backfill, success=2)

    answer = await penstock.client.post(f"/v1/backfills/{backfill['id']}/cancel")

    assert (answer.status_code, answer.json()["state"], answer.json()["queued"]) == (202, "cancelled", 0)
    states = await all_ended(connection, within=10)
    assert states["cancelled"] >= 25
    assert sum(states.values()) == 31
    await assert_history_is_whole(connection)


async def test_ten_thousand_dates_are_created_and_cancelled_quickly(penstock: Penstock, connection: Connection) -> None:
    await started_gateway(penstock)
    asked = {"start": "2023-01-01T00:00:00Z", "end": "2024-02-21T15:00:00Z", "every": "hour"}

    begun = time.monotonic()
    backfill = await create(penstock, **asked)
    created_s = time.monotonic() - begun
    cancelled = (await penstock.client.post(f"/v1/backfills/{backfill['id']}/cancel")).json()

    assert (backfill["total"], backfill["queued"], cancelled["cancelled"]) == (10_000, 10_000, 10_000)
    assert created_s < 10  # some 1.5 s on an idle machine of two cores
    assert await connection.fetchval("SELECT count(DISTINCT logical_date) FROM runs") == 10_000


async def started_gateway(penstock: Penstock) -> Process:
    """Start a gateway, and a runner only for as long as it takes to publish the pipelines."""
    gateway = await penstock.start_gateway()
    if not (await penstock.client.get("/v1/pipelines")).json()["items"]:
        runner = await penstock.start_runner()
        await runner.end()
    return gateway


async def no_other_sessions(connection: Connection) -> None:
    """Wait until Postgres has noticed that a client is dead."""

    async def are_gone() -> bool:
        return not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    await eventually(are_gone, timeout=20)
