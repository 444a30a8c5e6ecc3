"""The inspector: every delivery is found by what is known of it, and shown with what became of it."""

import asyncio
import datetime as dt
import hashlib
import uuid
from typing import Any

import pytest

from tests.inspecting import delivered, found, inspected, refused_event, schedule_of
from tests.problems import problem
from tests.system import Json, Penstock
from tests.waiting import eventually

UNKNOWN = "0198f0a0-0000-7000-8000-000000000001"
CONFIG = {"secrets": ["sesame"]}


@pytest.fixture(scope="module")
async def history(shared: Penstock) -> dict[str, Any]:
    """Deliveries of every verdict to two schedules of different pipelines."""
    plain, github = await asyncio.gather(
        shared.hook("quick"), shared.hook("steps", source="github", source_config=CONFIG | {"mode": "observe"})
    )
    word = uuid.uuid4().hex
    events = {
        "order": await delivered(shared, plain, f'{{"order": "{word}"}}', idempotency_key=f"k-{word}", ce_type="order"),
        "refund": await delivered(shared, plain, b'{"refund": 1}', ce_type="refund"),
        "push": await delivered(shared, github, b"{}", x_github_event="push", x_github_delivery=f"d-{word}"),
        "ping": await delivered(shared, github, b"{}", x_github_event="ping"),
    }
    await shared.deliver(plain, f'{{"order": "{word}"}}', idempotency_key=f"k-{word}")
    await shared.deliver(plain, f'{{"order": "{word}!"}}', idempotency_key=f"k-{word}")
    problem(await shared.deliver(plain, b"{", content_type="application/json"), 400, "malformed")
    await eventually(lambda: found(shared, schedule_id=schedule_of(plain), reason_code="malformed"))
    [events["malformed"]] = await found(shared, schedule_id=schedule_of(plain), reason_code="malformed")
    again = await found(shared, schedule_id=schedule_of(plain), verdict="duplicate")
    events["changed"], events["same"] = again
    return {"word": word, "plain": schedule_of(plain), "github": schedule_of(github), **events}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"event_type": "order"}, ["order"]),
        ({"event_type": "nothing"}, []),
        ({"verdict": "accepted"}, ["refund", "order"]),
        ({"verdict": "rejected"}, ["malformed"]),
        ({"verdict": "duplicate"}, ["changed", "same"]),
        ({"verdict": "handshake"}, []),
        ({"reason_code": "different_body"}, ["changed"]),
        ({"reason_code": "same_body"}, ["same"]),
        ({"reason_code": "malformed", "verdict": "accepted"}, []),
        ({"reason_code": "unheard-of"}, []),
        ({"source": "generic"}, ["malformed", "changed", "same", "refund", "order"]),
        ({"source": "github"}, []),
        ({"pipeline_id": "quick", "event_type": "refund"}, ["refund"]),
        ({"pipeline_id": "steps"}, []),
        ({"q": "ReFund"}, ["refund"]),
        ({"q": '"refund": 2'}, []),
        ({"q": "refund", "verdict": "rejected"}, []),
        ({"created_before": "1999-01-01T00:00:00Z"}, []),
    ],
)
async def test_events_of_a_schedule_are_found_by_each_filter(
    query: dict[str, str], expected: list[str], history: dict[str, Any], shared: Penstock
) -> None:
    ids = await found(shared, schedule_id=history["plain"], **query)

    assert ids == [history[name] for name in expected]


async def test_an_event_is_found_by_its_delivery_id_as_the_sender_shows_it(
    history: dict[str, Any], shared: Penstock
) -> None:
    word = history["word"]
    all_of_them = [history["changed"], history["same"], history["order"]]

    assert await found(shared, dedupe_key=f"key:k-{word}") == all_of_them
    assert await found(shared, dedupe_key=f"k-{word}") == all_of_them
    assert await found(shared, dedupe_key=f"k-{word}", verdict="accepted") == [history["order"]]
    assert await found(shared, dedupe_key=f"k-{word}", schedule_id=history["plain"], limit=2) == all_of_them[:2]
    assert await found(shared, dedupe_key=f"d-{word}") == [history["push"]]
    assert await found(shared, dedupe_key=f"d-{word}", schedule_id=history["plain"]) == []
    assert await found(shared, dedupe_key=f"{word}") == []


async def test_events_are_found_by_the_pipeline_and_by_a_text_anywhere(
    history: dict[str, Any], shared: Penstock
) -> None:
    assert await found(shared, pipeline_id="steps", source="github", verdict="handshake") == [history["ping"]]
    assert await found(shared, q=history["word"]) == [history["changed"], history["order"]]


async def test_a_filter_that_is_none_is_refused(shared: Penstock) -> None:
    for name in ("has_runs", "run_id"):
        problem(await shared.client.get("/v1/events", params={name: "1"}), 422, "invalid")
    problem(await shared.client.get("/v1/events", params={"schedule_id": UNKNOWN}), 404, "not_found")


async def test_a_listed_event_says_what_became_of_it(shared: Penstock) -> None:
    hook = await shared.hook("quick", split=True)
    numbers = ",".join(map(str, range(25)))
    answer = await shared.deliver(hook, f"[{numbers}]", content_type="application/json")
    runs = answer.json()["runs"]

    [event] = (await shared.client.get("/v1/events", params={"schedule_id": schedule_of(hook)})).json()["items"]

    assert event == {
        "id": answer.json()["event_id"],
        "schedule_id": schedule_of(hook),
        "source": "generic",
        "verdict": "accepted",
        "reason_code": None,
        "reason": None,
        "event_type": None,
        "dedupe_key": None,
        "content_type": "application/json",
        "kind": "json",
        "size": len(numbers) + 2,
        "sha256": hashlib.sha256(f"[{numbers}]".encode()).hexdigest(),
        "deliveries": 1,
        "conflicts": 0,
        "headers": event["headers"],
        "query": "",
        "timings": event["timings"],
        "observed": None,
        "rules_id": event["rules_id"],
        "duplicate_of": None,
        "received_at": event["received_at"],
        "runs": [
            {"id": run["id"], "number": run["number"], "state": listed["state"]}
            for run, listed in zip(runs[:20], event["runs"], strict=True)
        ],
        "has_more_runs": True,
        "replays": 0,
    }
    whole = await inspected(shared, event["id"])
    assert [(run["id"], run["item"]) for run in whole["runs"]] == [(run["id"], n) for n, run in enumerate(runs)]
    assert whole["has_more_runs"] is False
    assert whole["rules"] == {"filter": None, "mapping": {}, "dedupe": None, "split": True}


async def test_an_inspected_event_has_its_runs_and_what_came_again(shared: Penstock) -> None:
    hook = await shared.hook("quick", variables={"region": "eu"})
    answer = await shared.deliver(hook, b"[1]", idempotency_key="k")
    run = await shared.ended(answer.json()["runs"][0]["id"])
    rerun = (await shared.client.post(f"/v1/runs/{run['id']}/rerun")).json()
    await shared.ended(rerun["id"])
    for body in (b"[1]", b"[2]"):
        assert (await shared.deliver(hook, body, idempotency_key="k")).json()["status"] == "duplicate"

    event = await inspected(shared, answer.json()["event_id"])

    assert [(one["id"], one["origin"], one["parent_id"]) for one in event["runs"]] == [
        (run["id"], "event", None),
        (rerun["id"], "rerun", run["id"]),
    ]
    assert [(one["reason_code"], one["size"], one["sha256"]) for one in event["duplicates"]] == [
        ("same_body", 3, hashlib.sha256(b"[1]").hexdigest()),
        ("different_body", 3, hashlib.sha256(b"[2]").hexdigest()),
    ]
    assert (event["deliveries"], event["conflicts"], event["rules"], event["replays"]) == (3, 1, None, 0)
    same, changed = [await inspected(shared, one["id"]) for one in event["duplicates"]]
    assert (same["duplicate_of"], same["body_preview"]["value"]) == (event["id"], [1])
    assert (changed["duplicate_of"], changed["body_preview"]["value"]) == (event["id"], [2])
    assert (await shared.client.get(f"/v1/events/{same['id']}/body")).content == b"[1]"


async def test_an_event_and_its_bytes_can_be_read(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    body = b"<script>alert(1)</script>"
    headers = {"content_type": "text/html", "idempotency_key": "k", "authorization": "Bearer s3cret", "ce_type": "x.y"}
    answer = await shared.deliver(hook, body, **headers)
    run = await shared.ended(answer.json()["runs"][0]["id"])

    event = await inspected(shared, answer.json()["event_id"])

    assert event == {
        "id": run["event_id"],
        "schedule_id": schedule_of(hook),
        "source": "generic",
        "verdict": "accepted",
        "reason_code": None,
        "reason": None,
        "event_type": "x.y",
        "dedupe_key": "key:k",
        "content_type": "text/html",
        "kind": "text",
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "deliveries": 1,
        "conflicts": 0,
        "headers": event["headers"] | {"authorization": "***", "content-type": "text/html"},
        "query": "",
        "timings": event["timings"],
        "observed": None,
        "rules_id": None,
        "duplicate_of": None,
        "received_at": event["received_at"],
        "runs": [
            {
                "id": run["id"],
                "number": run["number"],
                "state": "success",
                "item": 0,
                "pipeline_id": "quick",
                "schedule_id": schedule_of(hook),
                "origin": "event",
                "replay_id": None,
                "parent_id": None,
                "created_at": run["created_at"],
            }
        ],
        "has_more_runs": False,
        "replays": 0,
        "duplicates": [],
        "body_preview": {"format": "text", "value": body.decode(), "truncated": False},
        "rules": None,
    }
    assert event["timings"].keys() == {"signature", "payload", "facts", "rules"}


LONG = "ü" * 10_000  # 20,000 bytes, of which 16 KiB end between two characters or not


@pytest.mark.parametrize(
    ("body", "content_type", "preview"),
    [
        (b'{"a": 1e3}', "application/json", {"format": "json", "value": {"a": 1000.0}, "truncated": False}),
        (b"[null]", "image/png", {"format": "json", "value": [None], "truncated": False}),
        (b"", "application/json", {"format": "none", "value": None, "truncated": False}),
        (b"a=1&b=2", "application/x-www-form-urlencoded", {"format": "text", "value": "a=1&b=2", "truncated": False}),
        ("Grüße".encode(), "text/plain", {"format": "text", "value": "Grüße", "truncated": False}),
        (("a" + LONG).encode(), "", {"format": "text", "value": ("a" + LONG)[:8192], "truncated": True}),
        (LONG.encode(), "", {"format": "text", "value": LONG[:8192], "truncated": True}),
        (b'"' + b"x" * 65_534 + b'"', "", {"format": "text", "value": '"' + "x" * 16_383, "truncated": True}),
        (b"\x89PNG\r\n\0", "image/png", {"format": "hex", "value": "89504e470d0a00", "truncated": False}),
        (b"a\0b", "text/plain", {"format": "hex", "value": "610062", "truncated": False}),
        (b"\xff" * 3000, "", {"format": "hex", "value": "ff" * 1024, "truncated": True}),
        (
            b"<script>alert(1)</script>",
            "text/html",
            {"format": "text", "value": "<script>alert(1)</script>", "truncated": False},
        ),
    ],
)
async def test_a_body_is_shown_as_what_it_is(body: bytes, content_type: str, preview: Json, shared: Penstock) -> None:
    event_id = await delivered(shared, await shared.hook("quick"), body, content_type=content_type)

    answer = await shared.client.get(f"/v1/events/{event_id}")

    assert answer.json()["body_preview"] == preview
    assert answer.headers["content-type"] == "application/json"
    download = await shared.client.get(f"/v1/events/{event_id}/body")
    assert download.content == body
    assert download.headers["content-type"] == "application/octet-stream"
    assert download.headers["content-disposition"] == f'attachment; filename="{event_id}"'
    assert download.headers["x-content-type-options"] == "nosniff"


async def test_a_number_beyond_all_bounds_is_shown_as_it_was_sent(shared: Penstock) -> None:
    event_id = await delivered(shared, await shared.hook("quick"), b'{"n": 1e400}')

    assert b'"value":{"n": 1e400}' in (await shared.client.get(f"/v1/events/{event_id}")).content


async def test_of_a_refused_body_the_beginning_is_shown_and_marked_as_cut(shared: Penstock) -> None:
    hook = await shared.hook("quick", source="github", source_config=CONFIG)

    small = await inspected(shared, await refused_event(shared, hook, b'{"a": 1}'))
    large = await inspected(shared, await refused_event(shared, hook, b'["' + b"x" * 20_000 + b'"]'))

    assert (small["kind"], small["body_preview"]) == (
        "json",
        {"format": "json", "value": {"a": 1}, "truncated": False},
    )
    assert (large["kind"], large["size"]) == ("binary", 20_004)
    assert large["body_preview"] == {"format": "text", "value": '["' + "x" * 16_382, "truncated": True}


async def test_what_there_is_not_cannot_be_inspected(shared: Penstock) -> None:
    for path in (f"/v1/events/{UNKNOWN}", "/v1/events/none", f"/v1/events/{UNKNOWN}/body"):
        problem(await shared.client.get(path), 404, "not_found")


async def test_pages_of_filtered_events_show_each_once(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    sent = [await delivered(shared, hook, b"%d" % n, ce_type=f"type-{n % 2}") for n in range(7)]
    seen: list[str] = []
    query: dict[str, str] = {"schedule_id": schedule_of(hook), "event_type": "type-0", "limit": "2"}
    while True:
        page = (await shared.client.get("/v1/events", params=query)).json()
        seen += [event["id"] for event in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    assert seen == sent[::-2]
    since = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).isoformat()
    assert await found(shared, schedule_id=schedule_of(hook), event_type="type-1", created_after=since) == sent[-2::-2]
