"""What senders are told, and what becomes of bodies of every kind."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from schemas.settings import MAX_BODY_LIMIT
from tests.captured_requests import SOURCES, read_config, read_request
from tests.problems import problem
from tests.system import Json, Penstock
from tests.waiting import eventually

FORM = "application/x-www-form-urlencoded"
MIB = 1 << 20


class Standing(msgspec.Struct):
    """Where a run stands."""

    state: str


async def event_of(shared: Penstock, answer: httpx.Response) -> Json:
    found: Json = (await shared.client.get(f"/v1/events/{answer.json()['event_id']}")).json()
    return found


async def has_succeeded(shared: Penstock, url: httpx.URL) -> bool:
    """Whether a run has succeeded; what else it holds is not looked at, as Python's json could not read it."""
    return msgspec.json.decode((await shared.client.get(url)).content, type=Standing).state == "success"


async def events_of(shared: Penstock, hook: str) -> list[Json]:
    answer = await shared.client.get("/v1/events", params={"schedule_id": hook.split("/")[-2]})
    found: list[Json] = answer.json()["items"]
    return found


async def chunked(hook: str, size: int) -> httpx.Response:
    """Send so many bytes without saying before how many there will be."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 65_536):
            yield b"x" * min(65_536, size - start)

    async with httpx.AsyncClient(timeout=30, trust_env=False) as sender:
        return await sender.post(hook, content=chunks())


@pytest.mark.parametrize(
    ("body", "content_type", "kind", "value"),
    [
        (b'{"a": [1, 2.5, null, "\xc3\xbc"]}', "application/json", "json", {"a": [1, 2.5, None, "ü"]}),
        (b"[1]", "", "json", [1]),
        (b"7", "text/plain", "json", 7),
        (b"null", "application/json", "json", None),
        (rb'{"\u0000": "\u0000"}', "application/json", "json", {"\0": "\0"}),
        (b'{"a": 1, "a": 2}', "application/json", "json", {"a": 2}),
        (b"a=1&b=x+y&a=2", FORM, "form", {"a": ["1", "2"], "b": "x y"}),
        (b"nul=%00", FORM, "form", {"nul": "\0"}),
        ("Grüße".encode(), "text/plain", "text", "Grüße"),
        (b'{"a": 1,}', "text/plain", "text", '{"a": 1,}'),
        (b"", "application/json", "empty", None),
        (b"", "", "empty", None),
    ],
)
async def test_a_body_becomes_event_variables(
    body: bytes, content_type: str, kind: str, value: Any, shared: Penstock
) -> None:
    answer = await shared.deliver(await shared.hook("quick"), body, content_type=content_type)

    run = await shared.ended(answer.json()["runs"][0]["id"])
    event = await event_of(shared, answer)
    assert (run["state"], run["event_variables"]) == ("success", value)
    assert (event["kind"], event["size"], event["content_type"]) == (kind, len(body), content_type)


async def test_binary_is_described_and_can_be_fetched(shared: Penstock) -> None:
    body = b"\x89PNG\r\n\x1a\n\0"
    answer = await shared.deliver(await shared.hook("quick"), body, content_type="image/png")

    run = await shared.ended(answer.json()["runs"][0]["id"])

    assert run["event_variables"] == {
        "content_type": "image/png",
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "url": f"{shared.url}/v1/events/{run['event_id']}/body",
    }
    assert (await shared.client.get(run["event_variables"]["url"])).content == body


async def test_numbers_beyond_all_bounds_are_shown_as_they_were_sent(shared: Penstock) -> None:
    body = b'{"float": 1e400, "integer": ' + b"9" * 5_000 + b"}"
    answer = await shared.deliver(await shared.hook("quick"), body, content_type="application/json")
    assert answer.status_code == 202

    shown = await shared.client.get(f"/v1/runs/{answer.json()['runs'][0]['id']}")

    assert body in shown.content
    await eventually(lambda: has_succeeded(shared, shown.url), timeout=20)


@pytest.mark.parametrize(
    "body", [b"{", b'{"a": 1,}', b"NaN", b'"\xff"', rb'"\ud800"', b"\xef\xbb\xbf{}", b"[" * 10_000, b'{"a": "\0"}']
)
async def test_declared_json_that_is_none_is_refused_and_leaves_a_note(body: bytes, shared: Penstock) -> None:
    hook = await shared.hook("quick")

    reason = problem(await shared.deliver(hook, body, content_type="application/json"), 400, "malformed")

    await eventually(lambda: events_of(shared, hook))
    [event] = await events_of(shared, hook)
    assert (event["verdict"], event["reason_code"], event["reason"]) == ("rejected", "malformed", reason)
    assert event["size"] == len(body)


async def test_a_cloud_event_whose_id_postgres_cannot_hold_is_told_apart_all_the_same(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    event = json.dumps({"specversion": "1.0", "type": "t", "source": "s", "id": "\0"})

    first = await shared.deliver(hook, event, content_type="application/cloudevents+json")
    again = await shared.deliver(hook, event, content_type="application/cloudevents+json")

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["event_id"] == first.json()["event_id"]


async def test_a_duplicate_is_told_what_the_first_one_was_told(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    first = await shared.deliver(hook, b"1", idempotency_key="k" * 5_000)
    await shared.ended(first.json()["runs"][0]["id"])

    again = await shared.deliver(hook, b"2", idempotency_key="k" * 5_000)

    assert again.status_code == 200
    run = first.json()["runs"][0] | {"state": "success"}
    assert again.json() == {
        "event_id": first.json()["event_id"],
        "status": "duplicate",
        "runs": [run],
        "reason": "another body came before with the same key",
    }
    assert again.headers["location"] == run["url"]
    assert (await event_of(shared, first))["deliveries"] == 2
    assert (await shared.run(run["id"]))["event_variables"] == 1


async def test_a_schedule_that_observes_lets_in_what_strict_would_refuse_and_says_so(shared: Penstock) -> None:
    config = {"secrets": ["sesame"], "mode": "observe"}
    hook = await shared.hook("quick", source="github", source_config=config)

    forged = await shared.deliver(hook, b"{}", x_hub_signature_256="sha256=00")

    assert forged.status_code == 202
    [event] = await events_of(shared, hook)
    assert event["verdict"] == "accepted"
    assert event["observed"] == "The signature in X-Hub-Signature-256 does not match the delivered bytes."
    problem(await shared.client.patch(hook_schedule(hook), json={"source_config": {"mode": "off"}}), 422, "invalid")
    strict = {"source_config": config | {"mode": "strict"}}
    assert (await shared.client.patch(hook_schedule(hook), json=strict)).status_code == 200
    problem(await shared.deliver(hook, b"{}", x_hub_signature_256="sha256=00"), 401, "bad_signature")


async def test_only_so_many_refusals_of_a_schedule_are_kept(shared: Penstock) -> None:
    hook = await shared.hook("quick", source="github", source_config={"secrets": ["sesame"]})

    for _ in range(30):
        problem(await shared.deliver(hook, b"x" * 20_000), 401, "bad_signature")

    async def kept() -> bool:
        return len(await events_of(shared, hook)) >= 20

    await eventually(kept)
    events = await events_of(shared, hook)
    assert len(events) <= 25
    assert {(event["verdict"], event["size"]) for event in events} == {("rejected", 20_000)}
    assert len((await shared.client.get(f"/v1/events/{events[0]['id']}/body")).content) == 16 << 10


def hook_schedule(hook: str) -> str:
    return f"/v1/schedules/{hook.split('/')[-2]}"


async def test_a_duplicate_is_kept_as_well_and_its_body_only_when_it_is_another_one(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    first = await shared.deliver(hook, b"1", idempotency_key="k")
    for body in (b"1", b"2"):
        await shared.deliver(hook, body, idempotency_key="k")

    other, same, original = await events_of(shared, hook)

    assert [event["verdict"] for event in (other, same, original)] == ["duplicate", "duplicate", "accepted"]
    assert [event["reason_code"] for event in (other, same, original)] == ["different_body", "same_body", None]
    assert [event["duplicate_of"] for event in (other, same)] == [original["id"]] * 2 == [first.json()["event_id"]] * 2
    assert (original["deliveries"], original["conflicts"]) == (3, 1)
    bodies = [(await shared.client.get(f"/v1/events/{event['id']}/body")).content for event in (other, same)]
    assert bodies == [b"2", b"1"]  # of the same body the first one is kept


async def test_of_many_duplicates_only_a_sample_is_kept(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    for _ in range(25):
        await shared.deliver(hook, b"1", idempotency_key="k")

    kept = await events_of(shared, hook)

    assert len(kept) == 20
    assert kept[-1]["deliveries"] == 25


async def test_a_delivery_that_is_split_becomes_one_run_per_item_and_only_once(shared: Penstock) -> None:
    hook = await shared.hook("quick", split=True)
    deliveries = [
        await shared.deliver(hook, b'[{"n": 1}, 2, null]', idempotency_key="k", content_type="application/json")
        for _ in range(2)
    ]
    first, again = deliveries

    assert (first.status_code, again.status_code) == (202, 200)
    runs = [await shared.ended(run["id"]) for run in first.json()["runs"]]
    assert [run["event_variables"] for run in runs] == [{"n": 1}, 2, None]
    assert [run["id"] for run in again.json()["runs"]] == [run["id"] for run in runs]
    ignored = await shared.deliver(hook, b"[]", content_type="application/json")
    assert (ignored.status_code, ignored.json()["reason"]) == (200, "there is no item in it")


async def test_items_of_a_duplicate_are_not_taken_for_items_that_ran(shared: Penstock) -> None:
    hook = await shared.hook("quick", split=True, dedupe="string(body.id)")
    old, new = b'[{"id": 1}]', b'[{"id": 1}, {"id": 2}]'
    await shared.deliver(hook, old, idempotency_key="k")

    duplicate = await shared.deliver(hook, new, idempotency_key="k")
    corrected = await shared.deliver(hook, new, idempotency_key="other")
    again = await shared.deliver(hook, new, idempotency_key="another")

    assert (duplicate.status_code, duplicate.json()["status"]) == (200, "duplicate")
    assert (corrected.status_code, len(corrected.json()["runs"])) == (202, 1)
    run = await shared.ended(corrected.json()["runs"][0]["id"])
    assert run["event_variables"] == {"id": 2}
    assert (again.json()["status"], again.json()["reason"]) == ("ignored", "all its items came before")


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_up_to_its_limit_is_taken_and_not_one_byte_more(is_chunked: bool, shared: Penstock) -> None:
    hooks = {MIB: await shared.hook("quick"), 1_000: await shared.hook("quick", body_limit=1_000)}
    for limit, hook in hooks.items():
        sizes = {limit: 202, limit + 1: 413, 4 * MIB: 413}
        for size, status in sizes.items():
            answer = await (chunked(hook, size) if is_chunked else shared.deliver(hook, b"x" * size))
            assert answer.status_code == status, (limit, size)
        assert problem(answer, 413, "too_large") == (
            f"The body is larger than {limit} bytes, the limit here: send a reference to it instead "
            "(a path, a key or a URL)."
        )
        taken = [event for event in await events_of(shared, hook) if event["verdict"] == "accepted"]
        assert [event["size"] for event in taken] == [limit]


@pytest.mark.parametrize("size", [MAX_BODY_LIMIT, MAX_BODY_LIMIT + 1])
async def test_a_schedule_may_take_the_largest_body_that_there_is(size: int, shared: Penstock) -> None:
    hook = await shared.hook("quick", body_limit=MAX_BODY_LIMIT)

    for answer in (await shared.deliver(hook, b"x" * size), await chunked(hook, size)):
        assert answer.status_code == (202 if size == MAX_BODY_LIMIT else 413)


async def test_a_dry_run_explains_and_writes_nothing(shared: Penstock) -> None:
    hook = await shared.hook("quick")

    answer = await shared.deliver(hook + "?dry_run=1", b'{"a": 1}', content_type="application/json")

    assert (answer.status_code, "location" in answer.headers) == (200, False)
    assert answer.json() == {
        "event_id": None,
        "status": "accepted",
        "runs": [],
        "dry_run": True,
        "steps": [
            {"step": "token", "finding": "it fires this schedule"},
            {"step": "size", "finding": "8 bytes are within the limit"},
            {"step": "signature", "finding": "none is asked for"},
            {"step": "payload", "finding": "read as json"},
            {"step": "event type", "finding": "none given"},
            {"step": "dedupe key", "finding": "none given: every delivery counts"},
            {"step": "verdict", "finding": "would become a run of quick, unless it came before"},
        ],
    }
    assert (await shared.deliver(hook + "?dry_run=1", b"x" * (MIB + 1))).status_code == 413
    assert (await shared.deliver(hook + "?dry_run=0")).status_code == 202
    assert len(await events_of(shared, hook)) == 1


async def test_a_paused_schedule_that_rejects_says_so_and_takes_the_same_delivery_later(shared: Penstock) -> None:
    hook = await shared.hook("quick", is_paused=True, on_paused="reject")
    schedule = f"/v1/schedules/{hook.split('/')[-2]}"

    ignored = await shared.deliver(hook, idempotency_key="k")
    assert ignored.status_code == 200
    assert ignored.json() == {
        "event_id": ignored.json()["event_id"],
        "status": "ignored",
        "runs": [],
        "reason": "the schedule is paused",
    }
    assert (await event_of(shared, ignored))["verdict"] == "filtered"

    await shared.client.patch(schedule, json={"is_paused": False})
    assert (await shared.deliver(hook, idempotency_key="k")).status_code == 202


async def test_a_paused_schedule_that_queues_runs_everything_when_it_goes_on(shared: Penstock) -> None:
    hook = await shared.hook("quick", is_paused=True)
    waiting = [await shared.delivered_run(hook) for _ in range(3)]
    other = await shared.delivered_run(await shared.hook("quick"))
    await shared.ended(other)
    assert [(await shared.run(run))["state"] for run in waiting] == ["queued"] * 3

    await shared.client.patch(f"/v1/schedules/{hook.split('/')[-2]}", json={"is_paused": False})

    assert [(await shared.ended(run))["state"] for run in waiting] == ["success"] * 3


async def test_a_paused_schedule_may_run_all_the_same(shared: Penstock) -> None:
    hook = await shared.hook("quick", is_paused=True, on_paused="run")

    assert (await shared.ended(await shared.delivered_run(hook)))["state"] == "success"


async def test_a_handshake_is_answered_and_kept_without_a_run(shared: Penstock) -> None:
    config = msgspec.to_builtins(read_config("github"))
    hook = await shared.hook("quick", source="github", source_config=config)
    ping = read_request(SOURCES / "github" / "ping.http")
    headers = {name: value for name, value in ping.headers.items() if name not in ("host", "content-length")}

    answer = await shared.deliver(hook, ping.body, **headers)
    forged = await shared.deliver(hook, ping.body + b" ", **headers)

    assert answer.status_code == 200
    assert answer.json() == {
        "event_id": answer.json()["event_id"],
        "status": "ignored",
        "runs": [],
        "reason": "ping is a handshake",
    }
    problem(forged, 401, "bad_signature")

    async def both_are_kept() -> bool:
        return len(await events_of(shared, hook)) == 2

    await eventually(both_are_kept)
    rejected, handshake = await events_of(shared, hook)
    assert (handshake["verdict"], handshake["reason_code"]) == ("handshake", None)
    assert (rejected["verdict"], rejected["reason_code"]) == ("rejected", "bad_signature")


async def test_a_sender_waits_for_as_long_as_it_asked_for_and_is_told_what_is_true_then(shared: Penstock) -> None:
    slow = await shared.hook("steps", variables={"seconds": 1.0})
    quick = await shared.hook("quick")

    asked_late = await shared.deliver(slow, prefer="wait=1")
    in_time, *others = await asyncio.gather(
        shared.deliver(quick, prefer="respond-async, wait=20"),
        shared.deliver(quick, prefer="wait=0"),
        shared.deliver(quick, prefer="wait=soon"),
        shared.deliver(quick, prefer="wait"),
    )

    assert (asked_late.status_code, asked_late.json()["runs"][0]["state"]) == (202, "running")
    assert (in_time.status_code, in_time.json()["runs"][0]["state"]) == (200, "success")
    assert [answer.status_code for answer in others] == [202] * 3
    await shared.client.post(f"/v1/runs/{asked_late.json()['runs'][0]['id']}/cancel")
