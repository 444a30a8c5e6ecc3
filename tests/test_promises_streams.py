"""Streams: whoever watches sees all of it, once and in order, or is told what is missing."""

import asyncio
import contextlib
import itertools
import json
import random
import socket
from collections.abc import AsyncIterator, Sized
from pathlib import Path

from tests.faults import Connection, Crowd, all_ended, post, trigger
from tests.system import KEY, Json, Penstock, Process, free_port
from tests.waiting import eventually

LINES = 9000
PADDING = 2000
SLOW_READERS = 20
WATCHERS = 200


async def story_of(penstock: Penstock, path: str, last_event_id: str | None = None) -> list[Json]:
    return [event async for event in penstock.events(path, last_event_id=last_event_id)]


async def test_a_stream_resumes_after_each_event_with_exactly_the_rest(shared: Penstock) -> None:
    run_id = await trigger(shared, "flaky")
    whole = await story_of(shared, f"/v1/runs/{run_id}/stream")
    assert len(whole) == 13

    for position in range(len(whole)):
        rest = await story_of(shared, f"/v1/runs/{run_id}/stream", str(position))
        assert rest == whole[position:]


async def test_a_run_that_nobody_knows_is_a_404_before_any_stream_begins(shared: Penstock) -> None:
    for run in ("0198c0de-0000-7000-8000-000000000000", "999999", "nonsense"):
        answer = await shared.client.get(f"/v1/runs/{run}/stream")
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_all_watchers_of_a_run_at_two_gateways_see_the_same(penstock: Penstock) -> None:
    other_port = free_port()
    await asyncio.gather(penstock.start(), penstock.start_gateway(port=other_port))
    run_id = await trigger(penstock, "steps", seconds=0.3)
    bases = itertools.cycle([penstock.url, f"http://127.0.0.1:{other_port}"])

    stories = await asyncio.gather(
        *(story_of(penstock, f"{base}/v1/runs/{run_id}/stream") for base in itertools.islice(bases, WATCHERS))
    )

    assert [event["event"] for event in stories[0]][-2:] == ["run", "end"]
    assert [event["id"] for event in stories[0][:-1]] == [str(seq) for seq in range(1, len(stories[0]))]
    assert all(story == stories[0] for story in stories)


async def test_a_reader_that_stops_reading_is_told_of_the_gap_and_costs_no_memory(penstock: Penstock) -> None:
    gateway, _ = await penstock.start()
    await penstock.client.patch("/v1/pipelines/chatty", json={"is_paused": True})  # until everybody watches
    run_id = await trigger(penstock, "chatty", lines=LINES, padding=PADDING)

    async with contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(slow_reader(penstock, run_id)) for _ in range(SLOW_READERS)]
        before = resident_mb(gateway)
        await penstock.client.patch("/v1/pipelines/chatty", json={"is_paused": False})
        swift = await story_of(penstock, f"/v1/runs/{run_id}/stream")
        assert resident_mb(gateway) - before < 100  # what was said is 18 MB, for each reader
        stories = [await read_to_the_end(reader) for reader in slow]

    last = int(swift[-2]["id"])
    for story in (swift, *stories):
        assert story[-1]["event"] == "end"
        assert missed(story, last) + len(ids(story)) == last
    assert all(missed(story, last) > 0 for story in stories)


async def test_the_stream_of_everything_resumes_without_loss_or_repetition(
    penstock: Penstock, connection: Connection
) -> None:
    await penstock.start()
    hook = await penstock.hook("quick")
    heard: list[Json] = []

    async def watch_now_and_then() -> None:
        cursor = f"{await connection.fetchval('SELECT pg_snapshot_xmin(pg_current_snapshot())::text')}-{'0' * 32}-0"
        while True:
            quota = random.randint(1, 40)
            async with contextlib.aclosing(penstock.events("/v1/stream?topics=runs", last_event_id=cursor)) as events:
                async for event in events:
                    heard.append(event)
                    cursor = event["id"]
                    if (quota := quota - 1) == 0:
                        break

    watcher = asyncio.create_task(watch_now_and_then())
    async with Crowd(hook, per_second=100) as crowd:
        await crowd.reached(200)
    await all_ended(connection, within=30)
    total = await connection.fetchval("SELECT count(*) FROM changes WHERE kind = 'run'")
    await eventually(lambda: len(heard) >= total, timeout=15)
    watcher.cancel()

    rows = await connection.fetch("SELECT run_id, seq FROM changes WHERE kind = 'run'")
    assert sorted((e["data"]["run_id"], e["data"]["seq"]) for e in heard) == sorted((str(i), seq) for i, seq in rows)


async def test_a_transaction_that_commits_late_is_not_overlooked(
    shared: Penstock, shared_connection: Connection
) -> None:
    hook = await shared.hook("quick")
    late_id = await shared.delivered_run(hook)
    await shared.ended(late_id)
    heard: list[tuple[str, int]] = []

    schedule_id = (await shared.run(late_id))["schedule_id"]

    async def watch() -> None:
        async for event in shared.events(f"/v1/stream?topics=schedule:{schedule_id}"):
            heard.append((event["data"]["run_id"], event["data"]["seq"]))  # noqa: PERF401 - others look meanwhile

    watcher = asyncio.create_task(watch())
    await eventually(lambda: _is_heard(hook, heard), timeout=10)
    async with shared_connection.transaction():
        await shared_connection.execute(
            "INSERT INTO changes (run_id, seq, kind, state, attempt) VALUES ($1, 1000, 'block', 'success', 1)", late_id
        )
        overtaking = await shared.delivered_run(hook)
        await shared.ended(overtaking)

    await eventually(lambda: (overtaking, 7) in heard, timeout=10)
    watcher.cancel()
    assert heard.count((late_id, 1000)) == 1
    assert heard.index((late_id, 1000)) < heard.index((overtaking, 7))
    assert len(heard) == len(set(heard))
    await shared_connection.execute("DELETE FROM changes WHERE seq = 1000")


async def test_many_first_watchers_of_everything_hear_each_change_once(penstock: Penstock) -> None:
    await penstock.start()
    heard: list[list[Json]] = [[] for _ in range(30)]

    async def watch(mine: list[Json]) -> None:
        async for event in penstock.events("/v1/stream?topics=runs"):
            mine.append(event)  # noqa: PERF401 - others look meanwhile

    watchers = [asyncio.create_task(watch(mine)) for mine in heard]
    hook = await penstock.hook("quick")

    await eventually(lambda: _is_heard(hook, *heard), timeout=15)
    last = await penstock.delivered_run(hook)
    await eventually(
        lambda: all(mine[-1]["data"]["run_id"] == last and _is_end(mine[-1]) for mine in heard), timeout=15
    )
    for watcher in watchers:
        watcher.cancel()
    for mine in heard:
        assert len({event["id"] for event in mine}) == len(mine)


@contextlib.asynccontextmanager
async def slow_reader(penstock: Penstock, run_id: str) -> AsyncIterator[asyncio.StreamReader]:
    """Ask for the stream of a run, over a connection that holds little of what nobody reads."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", penstock.port))
    reader, writer = await asyncio.open_connection(sock=plug, limit=4096)
    head = ("host: x", "connection: close", f"authorization: Bearer {KEY}", "", "")
    writer.write(f"GET /v1/runs/{run_id}/stream HTTP/1.1\r\n".encode() + "\r\n".join(head).encode())
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield reader
    finally:
        writer.close()


async def read_to_the_end(reader: asyncio.StreamReader) -> list[Json]:
    """Read what is left of a stream in chunks (RFC 9112, section 7.1)."""
    text = bytearray()
    while size := int(await reader.readline(), 16):
        text += (await reader.readexactly(size + 2))[:-2]
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.decode().split("\n\n")]
    return [
        {"event": block["event"], "id": block.get("id"), "data": json.loads(block["data"])}
        for block in blocks
        if "data" in block
    ]


def ids(story: list[Json]) -> list[int]:
    """List the ids of a run's stream, and make sure that they only go up."""
    found = [int(event["id"]) for event in story if event["id"]]
    assert found == sorted(set(found))
    return found


def missed(story: list[Json], last: int) -> int:
    """Count what the gaps of a story stand for, and make sure that they are exactly where events are missing."""
    gaps = [event["data"] for event in story if event["event"] == "gap"]
    left_out = {seq for gap in gaps for seq in range(gap["from"], gap["to"] + 1)}
    assert left_out | set(ids(story)) == set(range(1, last + 1))
    return len(left_out)


def resident_mb(process: Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def _is_heard(hook: str, *watchers: Sized) -> bool:
    """Make something happen, and say whether every watcher has heard of anything yet."""
    await post(hook)
    return all(map(len, watchers))


def _is_end(event: Json) -> bool:
    return bool(event["data"]["state"] == "success")
