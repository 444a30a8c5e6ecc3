"""Outputs of every kind and size: what the next block receives, what callers see, what happens without the store."""

import io
import json
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.faults import Connection, trigger
from tests.system import Json, Penstock
from tests.waiting import eventually


async def ended_run(penstock: Penstock, pipeline_id: str, **variables: Any) -> Json:
    return await penstock.ended(await trigger(penstock, pipeline_id, **variables))


async def read(penstock: Penstock, run: Json, block: str, what: str, **query: Any) -> Json:
    answer = await penstock.client.get(f"/v1/runs/{run['id']}/blocks/{block}/{what}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def download(penstock: Penstock, run: Json, block: str, form: str) -> bytes:
    answer = await penstock.client.get(f"/v1/runs/{run['id']}/blocks/{block}/output", params={"format": form})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="run-{run["number"]}-{block}.{form}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.content


def objects_in(store: Path) -> list[Path]:
    return [path for path in store.rglob("*") if path.is_file() and "#" not in path.name]


async def refusal(penstock: Penstock, run: Json, path: str) -> tuple[int, str]:
    answer = await penstock.client.get(f"/v1/runs/{run['id']}/blocks/{path}")
    return answer.status_code, answer.json()["detail"]


@pytest.mark.parametrize(("padding", "is_large"), [(0, False), (5_000, True)])
async def test_tables_flow_from_block_to_block_and_can_be_looked_at(
    shared: Penstock, shared_connection: Connection, padding: int, is_large: bool
) -> None:
    run = await ended_run(shared, "tables", rows=100, padding=padding)

    assert run["state"] == "success", run["error"]
    assert {block["block_id"]: block["row_count"] for block in run["block_runs"]} == {
        "listed": 100, "framed": 100, "lazy": 100, "total": None,
    }  # fmt: skip
    stored = await shared_connection.fetch(
        "SELECT block_id, format, object, data FROM block_outputs WHERE run_id = $1", run["id"]
    )
    assert {row["block_id"]: row["format"] for row in stored} == {
        "listed": "msgpack", "framed": "polars", "lazy": "polars", "total": "msgpack",
    }  # fmt: skip
    assert {row["block_id"]: row["object"] is not None for row in stored}["listed"] is is_large
    for row in stored:
        assert (row["data"] is None) == (row["object"] is not None)

    preview = await read(shared, run, "listed", "preview")
    assert preview["columns"] == ["id", "name", "at", "price"]
    assert len(preview["rows"]) == 50
    assert (preview["row_count"], preview["truncated"], preview["block_id"]) == (100, True, "listed")
    assert preview["rows"][3]["name"].startswith("row 3")
    assert len(preview["rows"][3]["name"]) <= 501
    framed = await read(shared, run, "framed", "preview")
    assert framed["columns"] == ["id", "name", "at", "price", "kind"]
    assert framed["rows"][1]["at"] == "2026-01-01"
    assert (await read(shared, run, "total", "preview"))["value"] == {"sum": 2475.0, "rows": 100, "is_dry_run": False}

    rows = json.loads(await download(shared, run, "listed", "json"))
    assert rows[99] == {"id": 99, "name": f"row 99{'x' * padding}", "at": "2026-01-01", "price": 24.75}
    for block in ("listed", "lazy"):
        parquet = pl.read_parquet(io.BytesIO(await download(shared, run, block, "parquet")))
        arrow = pl.read_ipc(io.BytesIO(await download(shared, run, block, "arrow")))
        assert parquet["id"].to_list() == arrow["id"].to_list() == list(range(100))
    assert len(json.loads(await download(shared, run, "lazy", "json"))) == 100


async def test_a_profile_tells_each_column_and_its_drift(shared: Penstock) -> None:
    before = await ended_run(shared, "one_table", rows=10, columns={"id": "int", "name": "text", "score": "int"})
    await ended_run(shared, "raises")
    after = await ended_run(shared, "one_table", rows=10, columns={"id": "null", "name": "int", "extra": "text"})

    profile = await read(shared, before, "table", "profile")

    assert (profile["row_count"], profile["column_count"], profile["sampled"]) == (10, 3, False)
    assert profile["columns"][0] == {
        "name": "id",
        "type": "Int64",
        "null_count": 0,
        "null_pct": 0.0,
        "unique_count": 10,
        "unique_pct": 100.0,
        "min": 0,
        "max": 9,
        "mean": 4.5,
        "is_numeric": True,
        "sample_values": [0, 1, 2, 3, 4],
    }
    assert (profile["drift"], profile["compared_with"]) == ([], None)
    assert await read(shared, before, "table", "profile") == profile  # kept, not computed again
    changed = await read(shared, after, "table", "profile")
    assert changed["compared_with"] == before["id"]
    assert changed["drift"] == [
        {"column": "score", "type": "column_removed", "previous": "Int64", "current": None, "severity": "critical"},
        {"column": "id", "type": "null_spike", "previous": "0.0%", "current": "50.0%", "severity": "warning"},
        {"column": "name", "type": "type_changed", "previous": "String", "current": "Int64", "severity": "critical"},
        {"column": "extra", "type": "column_added", "previous": None, "current": "String", "severity": "warning"},
    ]


async def test_nothing_odd_in_a_table_is_an_error_of_ours(shared: Penstock) -> None:
    run = await ended_run(shared, "odd_tables")
    assert run["state"] == "success", run["error"]

    for block in [block["block_id"] for block in run["block_runs"]]:
        await read(shared, run, block, "preview")
    for block in ("odd", "odd_frame"):
        await read(shared, run, block, "profile")
        assert json.loads(await download(shared, run, block, "json"))
    assert pl.read_parquet(io.BytesIO(await download(shared, run, "odd", "parquet"))).height == 4
    assert len(json.loads(await download(shared, run, "long_text", "json"))) == 300_000
    odd = await read(shared, run, "odd", "preview")
    assert odd["columns"] == ["text", "mixed", "big", "nan", "nested", "7", "late", ""]
    assert odd["rows"][0] == {
        "text": "a\0b", "mixed": 1, "big": "18446744073709551615", "nan": "nan", "nested": {"a": [{"b": None}]},
        "7": "/w==", "late": None, "": None,
    }  # fmt: skip
    assert await read(shared, run, "no_rows", "preview") == {
        "block_id": "no_rows", "map_index": None, "columns": [], "rows": [], "row_count": 0, "truncated": False,
    }  # fmt: skip
    assert (await read(shared, run, "scalar", "preview"))["value"] == 42
    status, detail = await refusal(shared, run, "scalar/profile")
    assert (status, detail) == (409, "The output is no table but a number.")


async def test_there_is_a_reason_when_there_is_no_output(shared: Penstock, shared_connection: Connection) -> None:
    run = await ended_run(shared, "raises")

    assert await refusal(shared, run, "breaks/preview") == (404, "Block breaks has no output: it is failed.")
    assert (await refusal(shared, run, "nobody/preview"))[0] == 404
    assert "has no block 'nobody'" in (await refusal(shared, run, "nobody/preview"))[1]
    assert (await refusal(shared, run, "breaks/preview?map_index=3"))[1].endswith("has no item 3.")
    assert (await shared.client.get(f"/v1/runs/{run['id']}/blocks/breaks/preview?map_index=x")).status_code == 422
    purged = await ended_run(shared, "quick")
    await shared_connection.execute("DELETE FROM block_outputs WHERE run_id = $1", purged["id"])
    block = purged["block_runs"][0]["block_id"]
    assert await refusal(shared, purged, f"{block}/profile") == (404, f"The output of block {block} was purged.")


async def test_a_large_output_outlives_its_runner(penstock: Penstock, connection: Connection, tmp_path: Path) -> None:
    await penstock.start(store=tmp_path / "store")
    run_id = await trigger(penstock, "waits_for_marker", marker=str(tmp_path / "marker"))
    await eventually(lambda: not penstock.processes[1].is_alive or not penstock.processes[0].is_alive, timeout=15)
    await penstock.start_runner(store=tmp_path / "store")

    run = await penstock.ended(run_id)

    assert (run["state"], run["error"]) == ("success", None)
    kept = await connection.fetchval("SELECT object FROM block_outputs WHERE block_id = 'large'")
    assert (tmp_path / "store" / kept).stat().st_size > 400_000


async def test_a_runner_that_is_killed_between_upload_and_commit_leaves_an_orphan_and_no_half_truth(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    store, marker = tmp_path / "store", tmp_path / "marker"
    _, runner = await penstock.start(store=store)
    run_id = await trigger(penstock, "returns_late", marker=str(marker))

    async def has_begun() -> bool:
        return bool(await connection.fetchval("SELECT count(*) FROM block_runs WHERE state = 'running'"))

    await eventually(has_begun)
    async with connection.transaction():
        await connection.execute("SELECT 1 FROM runs FOR UPDATE")  # nobody commits anything of this run
        marker.touch()
        await eventually(lambda: len(objects_in(store)) == 1, timeout=10)
        await runner.end(signal.SIGKILL)
        await connection.execute(  # what waits for the lock would be committed although nobody hears of it
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'penstock runner'"
        )
    await penstock.start_runner(store=store)

    run = await penstock.ended(run_id)
    assert (run["state"], run["attempt"]) == ("success", 2)
    kept = await connection.fetchval("SELECT object FROM block_outputs")
    assert len(objects_in(store)) == 2
    assert store / kept in objects_in(store)
    assert (await read(penstock, run, "late", "preview"))["truncated"] is True


async def test_a_large_list_is_mapped_over_and_its_items_are_looked_at_one_by_one(shared: Penstock) -> None:
    run = await ended_run(shared, "spreads")

    assert run["state"] == "success", run["error"]
    heights = [2, 2, 2, 2, 2, 2, 2, 500_000, 2, 2, 2, 2]
    assert (await read(shared, run, "gathered", "preview"))["value"] == heights
    for index in (3, 7):
        item = await read(shared, run, "grown", "preview", map_index=index)
        assert (item["map_index"], item["row_count"], item["rows"][0]["n"]) == (index, heights[index], index)
    assert (await refusal(shared, run, "grown/preview"))[1] == (
        "Block grown is mapped: each of its items has an output; choose one with map_index."
    )
    assert (await read(shared, run, "grown", "profile", map_index=7))["row_count"] == 500_000


async def test_a_block_succeeds_only_once_the_store_has_its_output(penstock: Penstock, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_text("not a folder")
    await penstock.start(store=store)
    run_id = await trigger(penstock, "odd_tables")

    async def others_have_ended() -> bool:
        states = {block["block_id"]: block["state"] for block in (await penstock.run(run_id))["block_runs"]}
        return states.pop("long_text") == "running" and set(states.values()) == {"success"}

    await eventually(others_have_ended, timeout=15)
    store.unlink()

    run = await penstock.ended(run_id)
    assert run["state"] == "success"
    assert (await read(penstock, run, "long_text", "preview"))["truncated"] is True


async def test_an_output_beyond_the_limit_fails_its_block(penstock: Penstock, tmp_path: Path) -> None:
    await penstock.start(output_limit=1 << 20)

    run = await ended_run(penstock, "tables", rows=1000, padding=5_000)

    assert (run["error"]["type"], run["error"]["block_id"]) == ("OutputTooLarge", "listed")
    assert "the limit is 1,048,576" in run["error"]["message"]
