"""Bodies above 256 KiB: in the object store before the 2xx, described everywhere, read by blocks with one call."""

import asyncio
import datetime as dt
import hashlib
import os
import signal
import uuid
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.large_bodies import LargeBodies
from schemas.errors import Unavailable
from schemas.events import Delivery, PlannedRun
from schemas.ids import floor_of, new_id
from schemas.objects import INLINE_LIMIT, ObjectStore, body_key
from schemas.payload import Kind
from schemas.settings import MAX_BODY_LIMIT
from schemas.states import Verdict
from schemas.store import events, runs
from schemas.store.db import Database
from tests.faults import Connection, all_ended, blocks_of, post
from tests.problems import problem
from tests.system import Json, Penstock, free_port
from tests.waiting import eventually

MIB = 1 << 20
LARGE = b"[" + b'"\xc3\xbc",' * 200_000 + b"1]"


def objects_in(place: Path) -> list[str]:
    """Name the objects of a store, as keys."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file() and "#" not in path.name)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def take_away(place: Path) -> Path:
    """Let there be no folder where the store has its place, and say where it is meanwhile."""
    aside = place.with_name("aside")
    if place.exists():
        place.rename(aside)
    place.write_text("not a folder")
    return aside


def give_back(place: Path, aside: Path) -> None:
    place.unlink()
    if aside.exists():
        aside.rename(place)


async def output_of(penstock: Penstock, run: Json, block: str) -> Any:
    answer = await penstock.client.get(f"/v1/runs/{run['id']}/blocks/{block}/output", params={"format": "json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def purged(penstock: Penstock) -> None:
    """Purge what is older than a day, with its files."""
    purge = (await penstock.client.post("/v1/purge", json={"days": 1})).json()

    async def is_done() -> bool:
        found: Json = (await penstock.client.get(f"/v1/purges/{purge['id']}")).json()
        return found["phase"] == "done"

    await eventually(is_done, timeout=20)


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


async def test_without_the_store_a_large_delivery_is_held_and_then_refused_whole(
    penstock: Penstock, connection: Connection, place: Path
) -> None:
    await penstock.start(store=place, hold_s=1.5)
    hook = await penstock.hook("quick")
    aside = take_away(place)

    refused = await penstock.deliver(hook, LARGE, idempotency_key="a")
    assert "retry-after" in refused.headers
    assert problem(refused, 503, "unavailable").startswith("The object store is away")
    assert (await penstock.deliver(hook, b"small")).status_code == 202
    assert await connection.fetchval("SELECT count(*) FROM events WHERE size > 100") == 0

    held = asyncio.create_task(penstock.deliver(hook, LARGE, idempotency_key="a"))
    await asyncio.wait({held}, timeout=0.5)
    assert not held.done()
    give_back(place, aside)
    assert (await held).status_code == 202
    assert (await penstock.deliver(hook, LARGE, idempotency_key="a")).json()["status"] == "duplicate"
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


async def test_no_more_large_bodies_are_held_than_memory_is_there_for(db: Database, place: Path) -> None:
    bodies, body = LargeBodies(db, ObjectStore(str(place))), bytes(MAX_BODY_LIMIT)
    until = asyncio.get_running_loop().time() + 30
    async with AsyncExitStack() as held:
        for _ in range(5):
            await held.enter_async_context(bodies.stored(new_id(), body, until=until))
        with pytest.raises(Unavailable, match="Too much is waiting for the object store"):
            await held.enter_async_context(bodies.stored(new_id(), body, until=until))
    async with bodies.stored(new_id(), body, until=until):
        pass
    await eventually(lambda: objects_in(place) == [])


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


async def test_a_block_waits_for_a_store_that_is_away(penstock: Penstock, place: Path) -> None:
    await penstock.start(store=place)
    hook = await penstock.hook("reads_event", is_paused=True)
    run_id = await penstock.delivered_run(hook, LARGE)
    aside = take_away(place)
    await penstock.client.patch(f"/v1/schedules/{hook.split('/')[-2]}", json={"is_paused": False})

    async def others_have_ended() -> bool:
        states = {name: block["state"] for name, block in (await blocks_of(penstock, run_id)).items()}
        return states == {"described": "success", "raw": "running", "decoded": "running"}

    await eventually(others_have_ended, timeout=15)
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
    assert peak_mib(gateway.pid) < 400


async def is_running(connection: Connection, count: int) -> bool:
    return bool(await connection.fetchval("SELECT count(*) = $1 FROM runs WHERE state = 'running'", count))


def resident_mib(pid: int) -> float:
    return memory_of(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    return memory_of(pid, "VmHWM")


def memory_of(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
