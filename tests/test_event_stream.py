"""The topic `events`: every delivery with its verdict, as it is decided, and after a cut exactly the rest."""

import asyncio
import contextlib
import random

from tests.faults import Connection, Crowd
from tests.inspecting import inspected, schedule_of
from tests.sockets import hear, opened
from tests.system import Json, Penstock


async def horizon(connection: Connection) -> str:
    """Make the cursor of this moment."""
    return f"{await connection.fetchval('SELECT pg_snapshot_xmin(pg_current_snapshot())::text')}-{'0' * 32}-0"


async def heard_of(penstock: Penstock, topics: str, cursor: str, count: int) -> list[Json]:
    """Listen to a stream from a cursor on until so much was told."""
    heard: list[Json] = []
    async with asyncio.timeout(20):
        async with contextlib.aclosing(penstock.events(f"/v1/stream?topics={topics}", last_event_id=cursor)) as events:
            async for event in events:
                heard.append(event)
                if len(heard) == count:
                    break
    return heard


async def test_every_verdict_is_told_as_it_is_decided(penstock: Penstock, connection: Connection) -> None:
    await penstock.start_gateway()
    await penstock.start_runner()
    cursor = await horizon(connection)
    hook = await penstock.hook("quick", filter="body != 2")
    first = await penstock.deliver(hook, b"1", idempotency_key="k", ce_type="order")
    await penstock.deliver(hook, b"1", idempotency_key="k")
    await penstock.deliver(hook, b"2")
    await penstock.deliver(hook, b"{", content_type="application/json")

    heard = await heard_of(penstock, "events", cursor, 4)

    accepted, *others = [event["data"] for event in heard]
    assert {event["event"] for event in heard} == {"event"}
    stored = await inspected(penstock, first.json()["event_id"])
    assert accepted == {
        "event_id": stored["id"],
        "at": stored["received_at"],
        "schedule_id": schedule_of(hook),
        "pipeline_id": "quick",
        "verdict": "accepted",
        "source": "generic",
        "size": 1,
        "event_type": "order",
        "dedupe_key": "key:k",
    }
    assert [(told["verdict"], told["reason_code"]) for told in others] == [
        ("duplicate", "same_body"),
        ("filtered", "filter_false"),
        ("rejected", "malformed"),
    ]
    rest = await heard_of(penstock, "events", heard[1]["id"], 2)
    assert rest == heard[2:]
    async with opened(penstock.url, f"?topics=events&after={cursor}") as ws:
        messages = [await hear(ws) for _ in range(5)]
    assert [{"type": "event"} | event["data"] | {"cursor": event["id"]} for event in heard] == messages[1:]


async def test_topics_of_runs_tell_of_no_event(shared: Penstock, shared_connection: Connection) -> None:
    cursor = await horizon(shared_connection)
    hook = await shared.hook("quick")
    run_id = await shared.delivered_run(hook)
    await shared.ended(run_id)

    topics = f"schedule:{schedule_of(hook)}"
    alone = await heard_of(shared, topics, cursor, 7)
    together = await heard_of(shared, f"events,{topics}", cursor, 8)

    assert {event["event"] for event in alone} == {"run", "block"}
    assert [event for event in together if event["event"] != "event"] == alone
    assert together[0]["data"]["event_id"] == (await shared.run(run_id))["event_id"]


async def test_the_stream_of_events_resumes_without_loss_or_repetition(
    penstock: Penstock, connection: Connection
) -> None:
    await penstock.start_gateway()
    await penstock.start_runner()
    hook = await penstock.hook("quick")
    heard: list[Json] = []
    begin = await horizon(connection)

    async def watch_now_and_then() -> None:
        cursor = begin
        while True:
            part = await heard_of(penstock, "events", cursor, random.randint(1, 40))
            cursor = part[-1]["id"]
            heard.extend(part)

    watcher = asyncio.create_task(watch_now_and_then())
    async with Crowd(hook, per_second=100) as crowd:
        await crowd.reached(150)
    events = [str(row["id"]) for row in await connection.fetch("SELECT id FROM events")]
    watcher.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watcher
    assert heard
    if missing := len(events) - len(heard):
        heard += await heard_of(penstock, "events", heard[-1]["id"], missing)

    assert sorted(event["data"]["event_id"] for event in heard) == sorted(events)
