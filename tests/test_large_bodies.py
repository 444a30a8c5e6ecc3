"""Bodies above 256 KiB: in the object store before the 2xx, described everywhere, read by blocks with one call."""

import hashlib
import os
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.events import Delivery, PlannedRun
from schemas.ids import new_id
from schemas.objects import INLINE_LIMIT, body_key
from schemas.payload import Kind
from schemas.settings import MAX_BODY_LIMIT
from schemas.states import Verdict
from schemas.store import events, runs
from schemas.store.db import Database
from tests.faults import Connection, all_ended, blocks_of
from tests.large_bodies import LARGE, give_back, objects_in, sha256, take_away
from tests.system import Json, Penstock
from tests.waiting import eventually

MIB = 1 << 20


async def output_of(penstock: Penstock, run: Json, block: str) -> Any:
    answer = await penstock.client.get(f"/v1/runs/{run['id']}/blocks/{block}/output", params={"format": "json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "store"


async def test_a_large_body_is_read_by_every_kind_of_block_as_it_was_sent(penstock: Penstock, place: Path) -> None:
    await penstock.start(store=place)
    hook = await penstock.hook("reads_event", body_limit=MAX_BODY_LIMIT)
    body = (b'{"text": "' + b"x" * MAX_BODY_LIMIT)[: MAX_BODY_LIMIT - 2] + b'"}'

    run = await penstock.ended(await penstock.delivered_run(hook, body, content_type="application/json"))

    assert (run["state"], run["error"]) == ("success", None)
    reference = {
        "content_type": "application/json",
        "size": MAX_BODY_LIMIT,
        "sha256": sha256(body),
        "url": f"{penstock.url}/v1/events/{run['event_id']}/body",
    }
    assert run["event_variables"] == reference
    assert await output_of(penstock, run, "described") == reference
    assert await output_of(penstock, run, "raw") == {"size": MAX_BODY_LIMIT, "sha256": sha256(body)}
    assert await output_of(penstock, run, "decoded") == {"type": "dict", "length": 1, "is_same": True}
    listed = (await penstock.client.get("/v1/runs")).json()["items"]
    assert [item["event_variables"] for item in listed] == [reference]
    assert objects_in(place) == [body_key(uuid.UUID(run["event_id"]))]
    downloaded = await penstock.client.get(reference["url"])
    assert (downloaded.headers["content-length"], downloaded.content) == (str(MAX_BODY_LIMIT), body)


@pytest.mark.parametrize(
    ("body", "kind", "decoded"),
    [
        (LARGE, "json", {"type": "list", "length": 200_001}),
        (b"a=1&a=2&b=" + b"x" * INLINE_LIMIT, "form", {"type": "dict", "length": 2}),
        ("ü".encode() * INLINE_LIMIT, "text", {"type": "str", "length": INLINE_LIMIT}),
        (b"\0\xff" * INLINE_LIMIT, "binary", {"type": "bytes", "length": 2 * INLINE_LIMIT}),
        (b"x" * (INLINE_LIMIT + 1), "text", {"type": "str", "length": INLINE_LIMIT + 1}),
        (b"x" * INLINE_LIMIT, "text", {"type": "str", "length": INLINE_LIMIT}),
        (b"\0\xff", "binary", {"type": "bytes", "length": 2}),
        (b'{"a": 1}', "json", {"type": "dict", "length": 1}),
    ],
)
async def test_one_call_reads_an_event_of_any_size_and_kind(
    body: bytes, kind: str, decoded: Json, shared: Penstock, shared_connection: Connection
) -> None:
    hook = await shared.hook("reads_event", body_limit=MIB)
    content_type = "application/x-www-form-urlencoded" if kind == "form" else "application/octet-stream"

    run = await shared.ended(await shared.delivered_run(hook, body, content_type=content_type))

    assert (run["state"], run["error"]) == ("success", None)
    event = await shared_connection.fetchrow("SELECT * FROM events WHERE id = $1", run["event_id"])
    is_large = len(body) > INLINE_LIMIT
    assert (event["object"], event["body"]) == ((body_key(event["id"]), b"") if is_large else (None, body))
    assert (event["kind"], event["size"], event["sha256"].hex()) == (kind, len(body), sha256(body))
    assert await output_of(shared, run, "decoded") == decoded | {"is_same": True}
    assert await output_of(shared, run, "raw") == {"size": len(body), "sha256": sha256(body)}
    assert await output_of(shared, run, "described") == run["event_variables"]
    if is_large or kind == "binary":
        assert run["event_variables"] == {
            "content_type": content_type,
            "size": len(body),
            "sha256": sha256(body),
            "url": f"{shared.url}/v1/events/{run['event_id']}/body",
        }
    assert (await shared.client.get(f"/v1/events/{run['event_id']}/body")).content == body


async def test_a_link_takes_a_large_body_and_a_refused_one_leaves_nothing(
    penstock: Penstock, connection: Connection, place: Path
) -> None:
    await penstock.start(store=place)
    schedule = await penstock.schedule("reads_event")
    wish = {"expires_in_s": 60, "max_uses": 1}
    link = (await penstock.client.post(f"/v1/schedules/{schedule['id']}/links", json=wish)).json()["url"]

    run = await penstock.ended(await penstock.delivered_run(link, LARGE))
    assert (await output_of(penstock, run, "raw"))["sha256"] == sha256(LARGE)
    assert objects_in(place) == [body_key(uuid.UUID(run["event_id"]))]

    assert (await penstock.deliver(link, LARGE)).status_code == 404
    await eventually(lambda: objects_in(place) == [body_key(uuid.UUID(run["event_id"]))])


async def test_a_split_delivery_names_its_object_and_its_runs_keep_their_items(db: Database) -> None:
    first, again = split_delivery(LARGE), split_delivery(LARGE)
    different = split_delivery(LARGE + b" ")

    receipts = await events.ingest(db, [first, again, different])

    assert [(receipt.is_duplicate, receipt.differs) for receipt in receipts] == [
        (False, False), (True, False), (True, True),
    ]  # fmt: skip
    named = [await events.names_object(db, delivery.event_id) for delivery in (first, again, different)]
    assert named == [True, False, True]
    (row,) = await runs.of_ids(db, list(receipts[0].numbers), largest_body=100)
    assert (row.event_kind, row.event_size, row.event_body) == ("json", 7, b'{"n":1}')


def split_delivery(body: bytes) -> Delivery:
    """Make a large delivery of one item, as it is once its body has been stored."""
    event_id, nothing = new_id(), msgspec.Raw(b"{}")
    return Delivery(
        event_id=event_id,
        schedule_id=uuid.UUID(int=1),
        source="generic",
        verdict=Verdict.ACCEPTED,
        reason_code=None,
        reason=None,
        event_type=None,
        dedupe_key="key:a",
        content_type="application/json",
        kind=Kind.JSON,
        headers=b"{}",
        query="",
        body=b"",
        size=len(body),
        sha256=hashlib.sha256(body).digest(),
        timings=b"{}",
        observed=None,
        rules_id=None,
        run_id=None,
        pipeline_id="quick",
        variables=nothing,
        queue="default",
        items=(PlannedRun(run_id=new_id(), item=0, dedupe_key=None, variables=nothing, event_item=b'{"n":1}'),),
        object=body_key(event_id),
    )


async def test_an_event_that_is_gone_or_was_changed_fails_the_block_that_reads_it(
    penstock: Penstock, place: Path
) -> None:
    await penstock.start(store=place)
    hook = await penstock.hook("reads_event", is_paused=True)
    schedule = f"/v1/schedules/{hook.split('/')[-2]}"
    gone, changed = [await penstock.delivered_run(hook, LARGE) for _ in range(2)]
    for run_id, change in ((gone, None), (changed, b"]")):
        path = place / body_key(uuid.UUID((await penstock.run(run_id))["event_id"]))
        path.write_bytes(LARGE + change) if change else path.unlink()

    await penstock.client.patch(schedule, json={"is_paused": False})
    errors = {}
    for run_id in (gone, changed):
        run = await penstock.ended(run_id)
        errors[run_id] = {block["block_id"]: block["error"] for block in run["block_runs"]}
        answer = await penstock.client.get(f"/v1/events/{run['event_id']}/body")
        assert answer.status_code == (404 if run_id == gone else 409), answer.text

    assert errors[gone]["described"] is None
    for block in ("raw", "decoded"):
        assert errors[gone][block]["type"] == errors[changed][block]["type"] == "InputMissing"
        assert "it is not in the object store" in errors[gone][block]["message"]
        assert "its bytes in the object store have changed" in errors[changed][block]["message"]


async def test_a_block_waits_for_a_store_that_is_away_unless_it_is_cancelled(penstock: Penstock, place: Path) -> None:
    await penstock.start(store=place)
    hook = await penstock.hook("reads_event", is_paused=True)
    run_id, cancelled = [await penstock.delivered_run(hook, LARGE) for _ in range(2)]
    aside = take_away(place)
    await penstock.client.patch(f"/v1/schedules/{hook.split('/')[-2]}", json={"is_paused": False})

    async def waits(run_id: str) -> bool:
        states = {name: block["state"] for name, block in (await blocks_of(penstock, run_id)).items()}
        return states == {"described": "success", "raw": "running", "decoded": "running"}

    for waiting in (run_id, cancelled):
        await eventually(partial(waits, waiting), timeout=15)
    await penstock.client.post(f"/v1/runs/{cancelled}/cancel")
    assert (await penstock.ended(cancelled, timeout=10))["state"] == "cancelled"
    assert await waits(run_id)
    give_back(place, aside)
    assert (await penstock.ended(run_id))["state"] == "success"


async def test_no_runner_holds_what_its_blocks_have_not_asked_for(
    penstock: Penstock, connection: Connection, place: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    gateway, runner = await penstock.start(store=place, max_hosts=2)
    hook = await penstock.hook("waits_with_event", body_limit=MAX_BODY_LIMIT, variables={"marker": str(marker)})
    await penstock.ended(await penstock.delivered_run(await penstock.hook("quick")))
    before = resident_mib(runner.pid)

    body = os.urandom(1) + bytes(MAX_BODY_LIMIT - 1)
    for _ in range(10):
        await penstock.delivered_run(hook, body)
    await eventually(lambda: is_running(connection, 10), timeout=20)
    while_running = resident_mib(runner.pid)
    marker.touch()

    assert await all_ended(connection, within=60) == {"success": 11}
    assert max(while_running, resident_mib(runner.pid)) - before < 20
    assert peak_mib(gateway.pid) < 250


async def is_running(connection: Connection, count: int) -> bool:
    return bool(await connection.fetchval("SELECT count(*) = $1 FROM runs WHERE state = 'running'", count))


def resident_mib(pid: int) -> float:
    return memory_of(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    return memory_of(pid, "VmHWM")


def memory_of(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
