"""`/v1/ws`: what the streams tell, for whoever would rather have a WebSocket."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator

from websockets.asyncio.client import ClientConnection

from tests.faults import Connection, Crowd, all_ended, trigger
from tests.sockets import closed, hear, narrow, opened, raw_socket, say, told
from tests.system import Json, Penstock, free_port
from tests.test_promises_streams import resident_mb, story_of
from tests.waiting import eventually

LINES = 9000
PADDING = 2000


def as_messages(story: list[Json]) -> list[Json]:
    """Say the events of a stream as a WebSocket does."""
    cursors = [{"cursor": event["id"]} if event["id"] else {} for event in story]
    return [{"type": event["event"]} | event["data"] | cursor for event, cursor in zip(story, cursors, strict=True)]


# What is told


async def test_a_socket_tells_what_the_stream_of_a_run_tells_and_resumes_after_each_message(shared: Penstock) -> None:
    run_id = await trigger(shared, "flaky")
    whole = as_messages(await story_of(shared, f"/v1/runs/{run_id}/stream"))
    assert whole[-1]["type"] == "end"

    topics = [f"run:{run_id}", f"logs:{run_id}"]
    async with opened(shared.url) as ws:
        assert await hear(ws) == {"type": "subscribed", "topics": []}
        await say(ws, op="subscribe", topics=topics)
        assert await told(ws) == [{"type": "subscribed", "topics": topics}, *whole]
        for position in range(len(whole)):
            await say(ws, op="subscribe", topics=topics, after=str(position))
            assert (await told(ws))[1:] == whole[position:]


async def test_history_what_happens_and_the_end_come_in_one_line(shared: Penstock) -> None:
    run_id = await trigger(shared, "steps", seconds=0.3)
    number = (await shared.run(run_id))["number"]

    async with opened(shared.url, f"?topics=run:{number},logs:{number}") as ws:
        subscribed, *heard = await told(ws)

    assert subscribed == {"type": "subscribed", "topics": [f"run:{run_id}", f"logs:{run_id}"]}
    assert heard == as_messages(await story_of(shared, f"/v1/runs/{run_id}/stream"))


async def test_topics_of_one_run_can_be_told_apart(shared: Penstock) -> None:
    run_id = await trigger(shared, "flaky")
    whole = as_messages(await story_of(shared, f"/v1/runs/{run_id}/stream"))

    async with opened(shared.url, f"?topics=run:{run_id}") as ws:
        assert (await told(ws))[1:] == [message for message in whole if message["type"] != "log"]
    async with opened(shared.url, f"?topics=logs:{run_id}") as ws:
        assert (await told(ws))[1:] == [message for message in whole if message["type"] in ("log", "end")]


async def test_watchers_at_two_gateways_are_told_the_same(penstock: Penstock) -> None:
    other_port = free_port()
    await asyncio.gather(penstock.start(), penstock.start_gateway(port=other_port))
    run_id = await trigger(penstock, "steps", seconds=0.3)
    bases = itertools.cycle([penstock.url, f"http://127.0.0.1:{other_port}"])

    async def story(base: str) -> list[Json]:
        async with opened(base, f"?topics=run:{run_id},logs:{run_id}") as ws:
            return (await told(ws))[1:]

    stories = await asyncio.gather(*(story(base) for base in itertools.islice(bases, 60)))

    assert [message["cursor"] for message in stories[0][:-1]] == [str(n) for n in range(1, len(stories[0]))]
    assert all(heard == stories[0] for heard in stories)


async def test_topics_come_and_go_while_the_socket_is_open(shared: Penstock) -> None:
    one, other = await shared.schedule(), await shared.schedule()
    topics = [f"schedule:{one['id']}", f"schedule:{other['id']}"]

    async with opened(shared.url, f"?topics={topics[0]}") as ws:
        begun = await hear(ws)
        assert (begun["type"], begun["topics"]) == ("subscribed", topics[:1])
        await say(ws, op="subscribe", topics=topics[1:])
        assert await hear(ws) == {"type": "subscribed", "topics": topics}
        await say(ws, op="unsubscribe", topics=topics[:1])
        assert await hear(ws) == {"type": "subscribed", "topics": topics[1:]}
        runs = [await fired(shared, schedule) for schedule in (one, other)]
        messages = await told_until_ended(ws)

    assert {message["run_id"] for message in messages} == {runs[1]}
    assert {message["pipeline_id"] for message in messages} == {"quick"}
    async with opened(shared.url, f"?topics={','.join(topics)}&after={begun['cursor']}") as ws:
        again = [message async for message in replayed(ws)]
    assert {message["run_id"] for message in again} == set(runs)
    assert [message for message in again if message["run_id"] == runs[1]] == messages


async def test_a_socket_that_breaks_again_and_again_loses_and_repeats_nothing(
    penstock: Penstock, connection: Connection
) -> None:
    await penstock.start()
    hook = await penstock.hook("quick")
    heard: list[Json] = []

    async def watch_now_and_then(cursor: str) -> None:
        for quota in itertools.cycle((1, 7, 30)):
            async with opened(penstock.url, f"?topics=runs&after={cursor}") as ws:
                await hear(ws)
                for _ in range(quota):
                    heard.append(json.loads(await ws.recv()))
                    cursor = heard[-1]["cursor"]
                ws.transport.abort()

    async with opened(penstock.url, "?topics=runs") as ws:
        cursor = (await hear(ws))["cursor"]
    watcher = asyncio.create_task(watch_now_and_then(cursor))
    async with Crowd(hook, per_second=100) as crowd:
        await crowd.reached(60)
    await all_ended(connection, within=30)
    rows = await connection.fetch("SELECT run_id, seq FROM changes WHERE kind = 'run'")
    await eventually(lambda: watcher.done() or len(heard) >= len(rows), timeout=15)
    assert watcher.cancel()

    assert sorted((message["run_id"], message["seq"]) for message in heard) == sorted((str(i), n) for i, n in rows)


async def test_a_peer_that_stops_reading_is_told_of_the_gap_and_costs_no_memory(penstock: Penstock) -> None:
    gateway, _ = await penstock.start()
    await penstock.client.patch("/v1/pipelines/chatty", json={"is_paused": True})  # until everybody watches
    run_id = await trigger(penstock, "chatty", lines=LINES, padding=PADDING)
    query = f"?topics=run:{run_id},logs:{run_id}"
    few = {"max_queue": 1}

    async with contextlib.AsyncExitStack() as stack:
        slow = [
            await stack.enter_async_context(opened(penstock.url, query, sock=narrow(penstock.port), **few))
            for _ in range(10)
        ]
        for ws in slow:
            await hear(ws)
        before = resident_mb(gateway)
        await penstock.client.patch("/v1/pipelines/chatty", json={"is_paused": False})
        async with opened(penstock.url, query) as ws:
            await told(ws)
        assert resident_mb(gateway) - before < 100  # what was said is 18 MB, for each
        stories = await asyncio.gather(*map(told, slow))

    last = stories[0][-1]["seq"]
    for story in stories:
        gaps = [set(range(m["from"], m["to"] + 1)) for m in story if m["type"] == "gap"]
        seqs = {m["seq"] for m in story if "cursor" in m}
        assert gaps
        assert set.union(seqs, *gaps) == set(range(1, last + 1))
        assert sum(map(len, gaps)) + len(seqs) == last


# The end of the gateway


async def test_open_sockets_are_told_of_the_restart_and_the_gateway_ends(penstock: Penstock) -> None:
    gateway, _ = await penstock.start()
    run_id = await trigger(penstock, "steps", seconds=30)
    async with contextlib.AsyncExitStack() as stack:
        queries = ["", "?topics=runs", f"?topics=run:{run_id}", f"?topics=runs,run:{run_id}"]
        sockets = [await stack.enter_async_context(opened(penstock.url, query)) for query in queries]
        sockets.append(await stack.enter_async_context(opened(penstock.url, additional_headers={})))

        assert await gateway.end(within=5) == 0

        assert [await closed(ws) for ws in sockets] == [(1012, "service restart")] * len(sockets)


async def test_a_peer_that_reads_nothing_does_not_hold_up_the_end(penstock: Penstock) -> None:
    gateway, _ = await penstock.start(drain_s=60)
    run_id = await trigger(penstock, "chatty", lines=LINES, padding=PADDING)
    await penstock.ended(run_id)
    async with raw_socket(penstock, f"?topics=logs:{run_id}") as (reader, _):
        await eventually(lambda: len(reader._buffer) > 4096)  # and nobody reads on
        assert await gateway.end(within=12) == 0


async def fired(penstock: Penstock, schedule: Json) -> str:
    """Start a run by a token of a schedule."""
    token = (await penstock.client.post(f"/v1/schedules/{schedule['id']}/tokens")).json()
    return await penstock.delivered_run(token["url"])


async def told_until_ended(ws: ClientConnection) -> list[Json]:
    """Listen until a run has succeeded."""
    heard = [await hear(ws)]
    while (heard[-1]["type"], heard[-1]["state"]) != ("run", "success"):
        heard.append(await hear(ws))
    return heard


async def replayed(ws: ClientConnection) -> AsyncIterator[Json]:
    """Listen until two runs have succeeded."""
    await hear(ws)
    ended = 0
    while ended < 2:
        message = await hear(ws)
        ended += (message["type"], message["state"]) == ("run", "success")
        yield message
