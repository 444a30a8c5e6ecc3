"""`/api/ws`: each message in Brokoli's form, none lost when a socket breaks, and gaps said out loud."""

import contextlib
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from tests.faults import trigger
from tests.sockets import closed, hear, narrow, opened
from tests.system import KEY, Json, Penstock, free_port

ENDS = ("run.completed", "run.failed")
PATH = "/api/ws"


def watching(
    penstock: Penstock, query: str = "", **options: Any
) -> contextlib.AbstractAsyncContextManager[ClientConnection]:
    return opened(penstock.url, query, path=PATH, **options)


async def told(socket: ClientConnection, run_id: str | None = None) -> list[Json]:
    """Listen until a run has ended, and keep what was said of that, or of all."""
    heard: list[Json] = []
    while not heard or heard[-1]["type"] not in ENDS:
        message = await hear(socket)
        if run_id in (None, message.get("run_id")):
            heard.append(message)
    return heard


def without_times(heard: list[Json]) -> list[Json]:
    assert all(message["timestamp"].endswith("Z") for message in heard)
    return [
        {name: value for name, value in message.items() if name not in ("timestamp", "duration_ms", "cursor", "run_id")}
        for message in heard
    ]


async def test_a_run_is_told_in_brokolis_words(shared: Penstock) -> None:
    run_id = await trigger(shared, "flaky")

    async with watching(shared, f"?run_id={run_id}") as socket:
        heard = await told(socket)
        assert await closed(socket) == (1000, "the run has ended")

    about = {"pipeline_id": "flaky"}
    node = about | {"node_id": "tries"}
    log = {"type": "log", "level": "info"} | node
    retry = {"type": "node.started", "status": "retrying"} | node
    assert without_times(heard) == [
        {"type": "run.started", "seq": 2} | about,
        {"type": "node.started", "seq": 3} | node,
        log | {"message": "attempt 1", "seq": 4},
        retry | {"error": "retry 1: not yet", "seq": 5},
        {"type": "node.started", "seq": 6} | node,
        log | {"message": "attempt 2", "seq": 7},
        retry | {"error": "retry 2: not yet", "seq": 8},
        {"type": "node.started", "seq": 9} | node,
        log | {"message": "attempt 3", "seq": 10},
        {"type": "node.completed", "seq": 11} | node,
        {"type": "run.completed", "status": "success", "seq": 12} | about,
    ]
    assert {message["run_id"] for message in heard} == {run_id}


async def test_a_failure_and_what_it_skips_are_told(shared: Penstock) -> None:
    run_id = await trigger(shared, "branches")

    async with watching(shared, f"?run_id={run_id}") as socket:
        heard = await told(socket)

    nodes = {m["node_id"]: (m["type"], m.get("status"), m.get("error")) for m in heard if "node_id" in m}
    assert nodes == {
        "good": ("node.completed", None, None),
        "bad": ("node.failed", None, "bad"),
        "after_good": ("node.completed", None, None),
        "after_bad": ("node.completed", "skipped", None),
        "after_both": ("node.completed", "skipped", None),
    }
    assert (heard[-1]["type"], heard[-1]["status"], heard[-1]["error"]) == ("run.failed", "failed", "bad")


async def test_a_cancelled_run_has_failed_with_that_status(shared: Penstock) -> None:
    run_id = await trigger(shared, "steps", seconds=30)
    async with watching(shared, f"?run_id={run_id}") as socket:
        assert (await hear(socket))["type"] == "run.started"
        assert (await shared.client.post(f"/api/runs/{run_id}/cancel")).json() == {"status": "cancelled"}
        last = (await told(socket))[-1]

    assert (last["type"], last["status"], last["error"]) == ("run.failed", "cancelled", "cancelled")


async def test_a_socket_that_breaks_goes_on_after_any_message(shared: Penstock) -> None:
    run_id = await trigger(shared, "flaky")
    async with watching(shared, f"?run_id={run_id}") as socket:
        whole = await told(socket)

    for position, message in enumerate(whole[:-1]):
        async with watching(shared, f"?run_id={run_id}&since={message['cursor']}") as socket:
            assert await told(socket) == whole[position + 1 :]


async def test_all_runs_are_told_and_none_is_lost_while_nobody_listened(shared: Penstock) -> None:
    async with watching(shared, f"?token={KEY}", additional_headers={}) as socket:
        first = await trigger(shared, "quick")
        heard = await told(socket, first)
        cursor = heard[0]["cursor"]

    second = await trigger(shared, "quick")
    await shared.ended(second)
    async with watching(shared, f"?since={cursor}") as socket:
        rest = await told(socket, first)
        after = await told(socket, second)

    assert rest == heard[1:]
    assert [message["type"] for message in after] == [
        "run.started", "node.started", "node.completed", "node.started", "node.completed", "run.completed",
    ]  # fmt: skip
    assert {message["pipeline_id"] for message in (*heard, *after)} == {"quick"}


async def test_what_clients_say_is_ignored(shared: Penstock) -> None:
    async with watching(shared) as socket:
        for words in ("hello", '{"type":"subscribe"}', b"\x00\xff", "[" * 9000):
            await socket.send(words)
        await (await socket.ping())
        run_id = await trigger(shared, "quick")
        assert (await told(socket, run_id))[-1]["type"] == "run.completed"


@pytest.mark.parametrize(
    ("query", "headers", "status", "answer"),
    [
        ("", {}, 401, {"error": "API key required"}),
        ("?token=brk_0123", {}, 403, {"error": "invalid API key"}),
        ("", {"x-api-key": "psk_wrong"}, 403, {"error": "invalid API key"}),
        (f"?token={KEY}&run_id=run-abc", {}, 404, {"error": "run not found", "detail": "There is no run run-abc."}),
        (
            f"?token={KEY}&since=7",
            {},
            400,
            {"error": "since is the cursor of a message about all runs; this is not one of ours"},
        ),
    ],
)
async def test_who_may_not_listen_is_told_so_before_the_upgrade(
    query: str, headers: dict[str, str], status: int, answer: Json, shared: Penstock
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with watching(shared, query, additional_headers=headers):
            pass

    response = refused.value.response
    assert (response.status_code, json.loads(response.body or b"")) == (status, answer)


async def test_a_page_from_elsewhere_may_not_listen_and_our_own_may(shared: Penstock) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with watching(shared, f"?token={KEY}", origin="https://elsewhere.example"):
            pass
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body or b"") == {
        "error": "origin not allowed",
        "detail": f"Pages that watch come from {shared.url}.",
    }

    async with watching(shared, f"?token={KEY}", origin=shared.url, additional_headers={}) as socket:
        run_id = await trigger(shared, "quick")
        assert await told(socket, run_id)


async def test_who_reads_too_slowly_is_told_of_the_gap(penstock: Penstock) -> None:
    await penstock.start()
    await penstock.client.patch("/v1/pipelines/chatty", json={"is_paused": True})  # until it is watched
    run_id = await trigger(penstock, "chatty", lines=9000, padding=2000)

    async with watching(penstock, f"?run_id={run_id}", sock=narrow(penstock.port), max_queue=1) as socket:
        await penstock.client.patch("/v1/pipelines/chatty", json={"is_paused": False})
        await penstock.ended(run_id)
        heard = await told(socket)

    gaps = [set(range(m["from"], m["to"] + 1)) for m in heard if m["type"] == "gap"]
    seqs = {m["seq"] for m in heard if m["type"] != "gap"}
    assert gaps
    assert set.union(seqs, *gaps) == set(range(2, heard[-1]["seq"] + 1))


async def test_a_restart_is_said_and_another_gateway_goes_on(penstock: Penstock) -> None:
    other_port = free_port()
    gateway, _ = await penstock.start()
    await penstock.start_gateway(port=other_port)
    run_id = await trigger(penstock, "steps", seconds=1)
    async with watching(penstock, f"?run_id={run_id}") as one, watching(penstock) as other:
        first = await hear(one)
        assert await gateway.end(within=5) == 0
        assert [await closed(socket) for socket in (one, other)] == [(1012, "service restart")] * 2

    base = f"http://127.0.0.1:{other_port}"
    async with opened(base, f"?run_id={run_id}&since={first['cursor']}", path=PATH) as socket:
        heard = await told(socket)

    assert [m["node_id"] for m in heard if m["type"] == "node.completed"] == ["one", "two", "three", "four", "five"]
    assert [m["seq"] for m in heard] == list(range(first["seq"] + 1, heard[-1]["seq"] + 1))
