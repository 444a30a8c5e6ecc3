"""What a resumed run takes over from the old one: what is done stays done, and nothing that builds on what is not."""

import datetime as dt
import uuid
from typing import Any

from schemas.ids import new_id
from schemas.store import control
from schemas.store.db import Database
from tests.faults import Connection

GRAPH = {
    "blocks": [
        {"id": "load"},
        {"id": "shaky", "upstream": ["load"]},
        {"id": "other", "upstream": ["load"]},
        {"id": "each", "upstream": ["other"], "map": "other"},
        {"id": "optional", "upstream": ["load"]},
        {"id": "report", "upstream": ["shaky", "other"], "trigger_rule": "all_done"},
        {"id": "publish", "upstream": ["report"]},
    ],
    "callbacks": [
        {"id": "load.told", "on": "success", "block": "load"},
        {"id": "shaky.told", "on": "failure", "block": "shaky"},
        {"id": "report.told", "on": "success", "block": "report"},
        {"id": "run.told", "on": "failure"},
    ],
}
OLD = {
    ("load", -1): "success",
    ("shaky", -1): "failed",
    ("other", -1): "success",
    ("each", -1): "failed",
    ("each", 0): "success",
    ("each", 1): "failed",
    ("each", 2): "skipped",
    ("optional", -1): "skipped",
    ("report", -1): "success",  # it runs whatever happened: without what shaky would have given
    ("publish", -1): "success",
    ("load.told", -1): "success",
    ("shaky.told", -1): "success",
    ("report.told", -1): "success",
    ("run.told", -1): "success",
}
DONE = {
    ("load", -1): "success",
    ("other", -1): "success",
    ("each", 0): "success",
    ("each", 2): "skipped",
    ("optional", -1): "skipped",
    ("load.told", -1): "success",
}
WHEN = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


async def ended_run(connection: Connection, state: str = "failed", **columns: Any) -> uuid.UUID:
    """Write the pipeline and a run of it that ended, with its blocks; what was a success has an output."""
    await connection.execute(
        "INSERT INTO pipelines (id, version, file, graph) VALUES ('p', 'v2', 'p.py', $1)", {"blocks": []}
    )
    await connection.execute(
        "INSERT INTO pipeline_versions (pipeline_id, version, graph) VALUES ('p', 'v1', $1)", GRAPH
    )
    run_id = new_id()
    values = {"id": run_id, "pipeline_id": "p", "version": "v1", "state": state, "finished_at": WHEN, **columns}
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await connection.execute(
        f"INSERT INTO runs ({', '.join(values)}, error) VALUES ({places}, $${{}}$$)", *values.values()
    )
    for (block_id, map_index), block_state in OLD.items():
        key = (run_id, block_id, map_index)
        await connection.execute(
            """INSERT INTO block_runs (run_id, block_id, map_index, state, attempt, row_count, finished_at)
               VALUES ($1, $2, $3, $4, 3, 7, $5)""",
            *key,
            block_state,
            WHEN,
        )
        if block_state == "success":
            await connection.execute(
                """INSERT INTO block_outputs (run_id, block_id, map_index, format, object, size, preview)
                   VALUES ($1, $2, $3, 'arrow', $4, 70, '{}')""",
                *key,
                f"outputs/{block_id}/{map_index}",
            )
    return run_id


async def test_what_is_done_is_taken_over_and_what_builds_on_the_rest_is_not(
    db: Database, connection: Connection
) -> None:
    old = await ended_run(connection)

    ring = await control.resume(db, old, note=None)

    assert ring is not None
    blocks = await connection.fetch("SELECT * FROM block_runs WHERE run_id = $1", ring.run_id)
    assert {(row["block_id"], row["map_index"]): row["state"] for row in blocks} == DONE
    assert {(row["attempt"], row["row_count"], row["finished_at"]) for row in blocks} == {(3, 7, WHEN)}
    outputs = await connection.fetch("SELECT * FROM block_outputs WHERE run_id = $1", ring.run_id)
    assert {(row["block_id"], row["map_index"]): row["object"] for row in outputs} == {
        (block, item): f"outputs/{block}/{item}" for (block, item), state in DONE.items() if state == "success"
    }
    told = await connection.fetch("SELECT * FROM changes WHERE run_id = $1 ORDER BY seq", ring.run_id)
    assert [row["seq"] for row in told] == list(range(1, len(DONE) + 2))
    assert (told[0]["kind"], told[0]["state"]) == ("run", "queued")
    assert {(row["block_id"], -1 if row["map_index"] is None else row["map_index"]) for row in told[1:]} == set(DONE)
    assert await connection.fetchval("SELECT seq FROM runs WHERE id = $1", ring.run_id) == len(DONE) + 1


async def test_a_resumed_run_keeps_what_makes_it_the_same_work(db: Database, connection: Connection) -> None:
    schedule, event = new_id(), new_id()
    kept = {
        "schedule_id": schedule,
        "event_id": event,
        "item": 4,
        "logical_date": WHEN,
        "queue": "gpu",
        "callback_url": "https://example.com",
        "variables": b'{"a": 1}',
    }
    old = await ended_run(connection, **kept, run_key="nightly", note="why", origin="event")

    ring = await control.resume(db, old, note="mended")

    assert ring is not None
    assert (ring.dispatch, ring.lane, ring.queue) == (0, str(schedule), "gpu")
    row = await connection.fetchrow("SELECT * FROM runs WHERE id = $1", ring.run_id)
    assert row is not None
    assert {name: row[name] for name in kept} | {"variables": bytes(row["variables"])} == kept
    fresh = {"run_key": None, "note": "mended", "origin": "resume", "parent_id": old, "state": "queued", "attempt": 0}
    assert {name: row[name] for name in fresh} == fresh
