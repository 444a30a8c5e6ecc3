"""Replays over HTTP: one event or many, as it was or by today's rules, compared first, and written down."""

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.faults import Connection
from tests.gateway.api.test_events import UNKNOWN, delivered, found, inspected, refused_event, schedule_of
from tests.problems import problem
from tests.system import Json, Penstock
from tests.waiting import eventually


async def replayed(shared: Penstock, event_id: str, **body: Any) -> httpx.Response:
    return await shared.client.post(f"/v1/events/{event_id}/replay", json=body)


async def replay_many(shared: Penstock, **body: Any) -> Json:
    answer = await shared.client.post("/v1/events/replay", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{shared.url}/v1/replays/{answer.json()['id']}"
    return dict(answer.json())


async def completed(shared: Penstock, replay: Json) -> Json:
    async def is_completed() -> Json | None:
        now = (await shared.client.get(f"/v1/replays/{replay['id']}")).json()
        return now if now["state"] != "running" else None

    ended: Json = await eventually(is_completed, timeout=20)
    return ended


async def runs_of(shared: Penstock, replay_id: str) -> list[Json]:
    """Read the runs that a replay made, the first one first."""
    answer = await shared.client.get("/v1/runs", params={"replay_id": replay_id, "limit": "200"})
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()["items"]))


async def change(shared: Penstock, hook: str, **fields: Any) -> None:
    answer = await shared.client.patch(f"/v1/schedules/{schedule_of(hook)}", json=fields)
    assert answer.status_code == 200, answer.text


async def test_an_event_is_replayed_as_it_was_whatever_changed_since(shared: Penstock) -> None:
    hook = await shared.hook("quick", variables={"region": "eu"})
    event_id = await delivered(shared, hook, b'{"order": 7}', idempotency_key="k")
    [old] = (await inspected(shared, event_id))["runs"]
    await shared.ended(old["id"])
    await change(shared, hook, variables={"region": "us"})

    answer = await replayed(shared, event_id)

    assert answer.status_code == 202
    replay_id = answer.json()["replay_id"]
    [run] = answer.json()["runs"]
    assert answer.json() == {
        "replay_id": replay_id,
        "event_id": event_id,
        "mode": "as_was",
        "schedule_id": schedule_of(hook),
        "verdict": "accepted",
        "reason_code": None,
        "reason": None,
        "runs": [
            {
                "id": run["id"],
                "number": run["number"],
                "state": "queued",
                "url": f"{shared.url}/v1/runs/{run['id']}",
                "stream_url": f"{shared.url}/v1/runs/{run['id']}/stream",
            }
        ],
    }
    ended = await shared.ended(run["id"])
    assert ended["state"] == "success"
    assert (ended["origin"], ended["replay_id"], ended["event_id"]) == ("replay", replay_id, event_id)
    assert (ended["parent_id"], ended["resumed_from"]) == (old["id"], None)
    assert (ended["variables"], ended["event_variables"]) == ({"region": "eu"}, {"order": 7})
    event = await inspected(shared, event_id)
    assert [(one["id"], one["origin"], one["replay_id"]) for one in event["runs"]] == [
        (old["id"], "event", None),
        (run["id"], "replay", replay_id),
    ]
    assert (event["replays"], event["deliveries"]) == (1, 1)
    again = await shared.deliver(hook, b'{"order": 7}', idempotency_key="k")
    assert [one["id"] for one in again.json()["runs"]] == [old["id"]]  # a sender hears of its own runs only


async def test_an_event_is_replayed_by_todays_rules(shared: Penstock) -> None:
    hook = await shared.hook("quick", variables={"region": "eu"})
    event_id = await delivered(shared, hook, b'[{"n": 1}, {"n": 2}]', idempotency_key="k")
    await change(shared, hook, variables={"region": "us"}, split=True)

    answer = await replayed(shared, event_id, mode="today")

    runs = [await shared.ended(run["id"]) for run in answer.json()["runs"]]
    assert [run["event_variables"] for run in runs] == [{"n": 1}, {"n": 2}]
    assert [(run["state"], run["variables"], run["parent_id"]) for run in runs] == [
        ("success", {"region": "us"}, None)
    ] * 2
    assert {run["replay_id"] for run in runs} == {answer.json()["replay_id"]}


async def test_the_items_of_a_split_delivery_are_replayed_one_by_one(shared: Penstock) -> None:
    hook = await shared.hook("quick", split=True)
    event_id = await delivered(shared, hook, b'[1, "two", null]', content_type="application/json")
    await change(shared, hook, split=False)

    answer = await replayed(shared, event_id, mode="as_was")

    runs = [await shared.ended(run["id"]) for run in answer.json()["runs"]]
    assert [run["event_variables"] for run in runs] == [1, "two", None]
    whole = await replayed(shared, event_id, mode="today")
    [run] = whole.json()["runs"]
    assert (await shared.ended(run["id"]))["event_variables"] == [1, "two", None]


@pytest.mark.parametrize("mode", ["as_was", "today"])
async def test_an_event_is_replayed_to_another_schedule_by_id_or_number(mode: str, shared: Penstock) -> None:
    hook = await shared.hook("quick", variables={"seconds": "few"})
    other = await shared.schedule("steps", variables={"seconds": 0.0})
    event_id = await delivered(shared, hook, b'{"order": 7}')

    by_id = await replayed(shared, event_id, mode=mode, schedule_id=other["id"])
    by_number = await replayed(shared, event_id, mode=mode, schedule_id=other["number"])

    for answer in (by_id, by_number):
        assert answer.json()["schedule_id"] == other["id"]
    if mode == "today":
        run = await shared.ended(by_id.json()["runs"][0]["id"])
        assert (run["pipeline_id"], run["schedule_id"], run["state"]) == ("steps", other["id"], "success")
        assert (run["variables"], run["event_variables"]) == ({"seconds": 0.0}, {"order": 7})
    else:
        assert by_id.status_code == by_number.status_code == 200
        assert (by_id.json()["verdict"], by_id.json()["reason_code"]) == ("rejected", "params_invalid")
        assert "are not what pipeline steps takes: /variables/seconds" in by_id.json()["reason"]


async def test_a_replay_that_becomes_no_run_says_why_and_writes_nothing(
    shared: Penstock, shared_connection: Connection
) -> None:
    hook = await shared.hook("quick")
    event_id = await delivered(shared, hook, b"[]", content_type="application/json")
    await change(shared, hook, split=True)

    answer = await replayed(shared, event_id, mode="today")

    assert answer.status_code == 200
    assert answer.json() == {
        "replay_id": None,
        "event_id": event_id,
        "mode": "today",
        "schedule_id": schedule_of(hook),
        "verdict": "filtered",
        "reason_code": "no_items",
        "reason": "there is no item in it",
        "runs": [],
    }
    assert await shared_connection.fetchval("SELECT count(*) FROM replays WHERE event_id = $1", event_id) == 0


async def test_what_was_turned_away_is_let_in_by_a_replay(shared: Penstock) -> None:
    hook = await shared.hook("quick", is_paused=True, on_paused="reject")
    event_id = await delivered(shared, hook, b'{"n": 1}', idempotency_key="k")
    refusal = problem(await replayed(shared, event_id), 409, "conflict")
    assert "is paused, and it rejects" in refusal
    await change(shared, hook, is_paused=False)

    answer = await replayed(shared, event_id)

    assert (answer.status_code, answer.json()["mode"]) == (202, "today")
    assert (await shared.ended(answer.json()["runs"][0]["id"]))["event_variables"] == {"n": 1}
    assert (await inspected(shared, event_id))["verdict"] == "filtered"  # that is what happened then


async def test_a_forged_event_is_replayed_only_by_whoever_asks_for_it_by_name(shared: Penstock) -> None:
    hook = await shared.hook("quick", source="github", source_config={"secrets": ["sesame"]})
    event_id = await refused_event(shared, hook, b'{"ref": "main"}', x_github_event="push")

    many = await replay_many(shared, filter={"schedule_id": schedule_of(hook)})
    assert (await completed(shared, many))["events"] == 0
    one = await replayed(shared, event_id)

    assert one.status_code == 202
    assert (await shared.ended(one.json()["runs"][0]["id"]))["event_variables"] == {"ref": "main"}
    named = await replay_many(
        shared, filter={"schedule_id": schedule_of(hook), "reason_code": "bad_signature", "verdict": "rejected"}
    )
    assert [(await completed(shared, named))[count] for count in ("accepted", "runs", "expected")] == [1, 1, 1]


async def test_a_handshake_stays_one(shared: Penstock) -> None:
    config = {"secrets": ["sesame"], "mode": "observe"}
    hook = await shared.hook("quick", source="github", source_config=config)
    event_id = await delivered(shared, hook, b"{}", x_github_event="ping")

    answer = await replayed(shared, event_id)

    assert (answer.status_code, answer.json()["verdict"], answer.json()["runs"]) == (200, "handshake", [])


async def test_what_is_not_there_whole_cannot_be_replayed(shared: Penstock, shared_connection: Connection) -> None:
    hook = await shared.hook("quick", source="github", source_config={"secrets": ["sesame"]})
    cut = await refused_event(shared, hook, b"x" * 20_000)
    small = await shared.hook("quick", body_limit=10)
    problem(await shared.deliver(small, b"x" * 20), 413, "too_large")
    await eventually(lambda: found(shared, schedule_id=schedule_of(small)))
    [large] = await found(shared, schedule_id=schedule_of(small))

    assert "only 16384 bytes are kept" in problem(await replayed(shared, cut), 409, "conflict")
    assert "only 0 bytes are kept" in problem(await replayed(shared, large), 409, "conflict")
    assert "caused no run" in problem(await replayed(shared, cut, mode="as_was"), 409, "conflict")
    problem(await replayed(shared, UNKNOWN), 404, "not_found")
    problem(await replayed(shared, "none"), 404, "not_found")


async def test_an_event_of_a_deleted_schedule_needs_another_one(shared: Penstock) -> None:
    hook, other = await shared.hook("quick"), await shared.schedule("quick")
    event_id = await delivered(shared, hook, b"1")
    await shared.client.delete(f"/v1/schedules/{schedule_of(hook)}")

    assert "is deleted" in problem(await replayed(shared, event_id), 409, "conflict")
    assert (await replayed(shared, event_id, schedule_id=other["id"])).status_code == 202
    gone = await replayed(shared, event_id, schedule_id=schedule_of(hook))
    problem(gone, 422, "invalid")
    assert [error["pointer"] for error in gone.json()["errors"]] == ["/schedule_id"]


async def test_a_duplicate_is_replayed_with_its_own_body_or_the_first_ones(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    for body in (b"1", b"1", b"2"):
        await shared.deliver(hook, body, idempotency_key="k")
    other, same = await found(shared, schedule_id=schedule_of(hook), verdict="duplicate")

    [first] = await found(shared, schedule_id=schedule_of(hook), verdict="accepted")
    for event_id, of, mode, value in (
        (same, first, "as_was", 1),
        (same, first, "today", 1),
        (other, other, "today", 2),
    ):
        answer = (await replayed(shared, event_id, mode=mode)).json()
        run = await shared.ended(answer["runs"][0]["id"])
        assert (answer["event_id"], run["event_id"], run["event_variables"]) == (of, of, value)
    all_three = await replay_many(
        shared, filter={"schedule_id": schedule_of(hook), "dedupe_key": "k", "verdict": "duplicate"}, rate_per_s=1000
    )
    done = await completed(shared, all_three)
    assert (done["events"], done["runs"]) == (2, 2)


async def test_a_dry_run_shows_what_would_differ_and_writes_nothing(
    shared: Penstock, shared_connection: Connection
) -> None:
    hook = await shared.hook("quick", variables={"region": "eu", "depth": {"a": [1, 2]}, "gone": True})
    event_id = await delivered(shared, hook, b'{"order": 7}')
    [old] = (await inspected(shared, event_id))["runs"]
    await change(shared, hook, variables={"region": "us", "depth": {"a": [1, 3]}, "new": None})

    today = await replayed(shared, event_id, mode="today", dry_run=True)
    as_was = await replayed(shared, event_id, dry_run=True)

    assert (today.status_code, as_was.status_code) == (200, 200)
    then = {
        "run_id": old["id"],
        "number": old["number"],
        "pipeline_id": "quick",
        "variables": {"region": "eu", "depth": {"a": [1, 2]}, "gone": True},
    }
    assert today.json() == {
        "event_id": event_id,
        "mode": "today",
        "schedule_id": schedule_of(hook),
        "was": {"verdict": "accepted", "reason_code": None, "reason": None},
        "verdict": "accepted",
        "reason_code": None,
        "reason": None,
        "run_count": 1,
        "runs": [
            {
                "item": 0,
                "then": then,
                "now": {"pipeline_id": "quick", "variables": {"region": "us", "depth": {"a": [1, 3]}, "new": None}},
                "differences": [
                    {"pointer": "/variables/region", "then": "eu", "now": "us"},
                    {"pointer": "/variables/depth/a/1", "then": 2, "now": 3},
                    {"pointer": "/variables/gone", "then": True},
                    {"pointer": "/variables/new", "now": None},
                ],
            }
        ],
    }
    [run] = as_was.json()["runs"]
    assert (as_was.json()["mode"], run["then"], run["differences"]) == ("as_was", then, [])
    assert run["now"] == {"pipeline_id": "quick", "variables": then["variables"]}
    assert (await inspected(shared, event_id))["replays"] == 0
    assert await shared_connection.fetchval("SELECT count(*) FROM replays WHERE event_id = $1", event_id) == 0


async def test_a_dry_run_compares_the_items_of_a_split_delivery(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    event_id = await delivered(shared, hook, json.dumps(list(range(30))))
    await change(shared, hook, split=True)

    comparison = (await replayed(shared, event_id, mode="today", dry_run=True)).json()

    assert (comparison["run_count"], len(comparison["runs"])) == (30, 20)
    first, second, *_ = comparison["runs"]
    assert first["differences"] == [{"pointer": "/event_variables", "now": 0}]
    assert (second["then"], second["now"]["event_variables"], second["differences"]) == (None, 1, [])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"mode": "tomorrow"}, "/mode"),
        ({"dry_run": 1}, "/dry_run"),
        ({"schedule_id": UNKNOWN}, "/schedule_id"),
        ({"schedule_id": "no such thing"}, "/schedule_id"),
        ({"schedule_id": 2**70}, "/schedule_id"),
        ({"unknown": 1}, None),
    ],
)
async def test_a_wrong_wish_is_pointed_at(body: Json, pointer: str | None, shared: Penstock) -> None:
    event_id = await delivered(shared, await shared.hook("quick"))

    answer = await replayed(shared, event_id, **body)

    problem(answer, 422, "invalid")
    assert pointer is None or [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_replay_of_many_goes_from_the_oldest_to_the_newest_event(shared: Penstock) -> None:
    hook = await shared.hook("quick", variables={"region": "eu"})
    events = [await delivered(shared, hook, b"%d" % n, ce_type=f"type-{n % 2}") for n in range(10)]
    await change(shared, hook, variables={"region": "us"})
    chosen = {"schedule_id": schedule_of(hook), "event_type": "type-1"}

    replay = await replay_many(shared, filter=chosen, mode="today", rate_per_s=1000)
    await delivered(shared, hook, b"11", ce_type="type-1")  # came too late
    done = await completed(shared, replay)

    assert done == {
        "id": replay["id"],
        "number": replay["number"],
        "requested_by": "preset",
        "event_id": None,
        "filter": chosen,
        "mode": "today",
        "schedule_id": None,
        "rate_per_s": 1000,
        "limit": None,
        "state": "completed",
        "expected": 5,
        "progress": 1.0,
        "events": 5,
        "accepted": 5,
        "filtered": 0,
        "rejected": 0,
        "handshake": 0,
        "skipped": 0,
        "runs": 5,
        "created_at": replay["created_at"],
        "finished_at": done["finished_at"],
    }
    runs = await runs_of(shared, replay["id"])
    assert [run["event_id"] for run in runs] == events[1::2]
    assert [run["id"] for run in await runs_of(shared, str(replay["number"]))] == [run["id"] for run in runs]
    for run in runs:
        ended = await shared.ended(run["id"])
        assert (ended["state"], ended["origin"], ended["variables"]) == ("success", "replay", {"region": "us"})


async def test_a_replay_of_many_takes_each_event_as_it_can_be_taken(shared: Penstock) -> None:
    hook = await shared.hook("quick", is_paused=True, on_paused="reject")
    turned_away = await delivered(shared, hook, b"1")
    await change(shared, hook, is_paused=False)
    split = await delivered(shared, hook, b"[2, 3]")
    await change(shared, hook, split=True)
    empty = await delivered(shared, hook, b"[]")
    chosen = {"schedule_id": schedule_of(hook)}

    by_itself = await completed(shared, await replay_many(shared, filter=chosen, rate_per_s=1000))
    as_was = await completed(shared, await replay_many(shared, filter=chosen, mode="as_was", rate_per_s=1000))

    counts = ("events", "accepted", "filtered", "skipped", "runs")
    assert [by_itself[count] for count in counts] == [3, 2, 1, 0, 2]
    assert [as_was[count] for count in counts] == [3, 1, 0, 2, 1]
    runs = await runs_of(shared, by_itself["id"])
    assert [(run["event_id"], run["event_variables"]) for run in runs] == [(turned_away, 1), (split, [2, 3])]
    assert empty not in [run["event_id"] for run in runs]


async def test_a_replay_of_many_ends_at_its_limit(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    events = [await delivered(shared, hook, b"%d" % n) for n in range(5)]

    replay = await replay_many(shared, filter={"schedule_id": schedule_of(hook)}, limit=3, rate_per_s=1000)

    done = await completed(shared, replay)
    assert (done["limit"], done["expected"], done["events"], done["runs"]) == (3, 3, 3, 3)
    assert [run["event_id"] for run in await runs_of(shared, replay["id"])] == events[:3]


async def test_a_replay_of_many_is_counted_and_compared_first(shared: Penstock) -> None:
    hook = await shared.hook("quick", is_paused=True, on_paused="reject", variables={"v": 1})
    turned_away = await delivered(shared, hook, b"0")
    await change(shared, hook, is_paused=False)
    events = [await delivered(shared, hook, b"%d" % n) for n in range(24)]
    await change(shared, hook, variables={"v": 2})
    asked = {"filter": {"schedule_id": schedule_of(hook)}, "mode": "today", "dry_run": True}

    answer = await shared.client.post("/v1/events/replay", json=asked)

    assert answer.status_code == 200
    preview = answer.json()
    assert (preview["count"], preview["is_complete"]) == (25, True)
    assert preview["by_verdict"] == {"accepted": 24, "filtered": 1}
    assert [one["event_id"] for one in preview["events"]] == [turned_away, *events[:19]]
    first, second, *_ = preview["events"]
    assert first["was"] == {"verdict": "filtered", "reason_code": "paused", "reason": "the schedule is paused"}
    assert [(run["then"], run["now"]["variables"]) for run in first["runs"]] == [(None, {"v": 2})]
    assert second["runs"][0]["differences"] == [{"pointer": "/variables/v", "then": 1, "now": 2}]
    as_was = (await shared.client.post("/v1/events/replay", json=asked | {"mode": "as_was"})).json()["events"][0]
    assert (as_was["verdict"], as_was["reason_code"], as_was["run_count"]) == (None, "conflict", 0)
    assert "caused no run" in as_was["reason"]
    assert len((await shared.client.post("/v1/events/replay", json=asked | {"limit": 2})).json()["events"]) == 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, None),
        ({"filter": {}}, "/filter"),
        ({"filter": {"verdict": "fine"}}, "/filter/verdict"),
        ({"filter": {"q": ""}}, "/filter/q"),
        ({"filter": {"q": "\0"}}, "/filter/q"),
        ({"filter": {"created_after": "yesterday"}}, "/filter/created_after"),
        ({"filter": {"created_after": "2026-01-31T12:00:00"}}, "/filter/created_after"),
        ({"filter": {"schedule_id": 999_999}}, "/filter/schedule_id"),
        ({"filter": {"limit": 3}}, None),
        ({"filter": {"q": "a"}, "rate_per_s": 0}, "/rate_per_s"),
        ({"filter": {"q": "a"}, "rate_per_s": 1001}, "/rate_per_s"),
        ({"filter": {"q": "a"}, "limit": 0}, "/limit"),
        ({"filter": {"q": "a"}, "schedule_id": UNKNOWN}, "/schedule_id"),
    ],
)
async def test_a_wrong_wish_for_many_is_pointed_at(body: Json, pointer: str | None, shared: Penstock) -> None:
    answer = await shared.client.post("/v1/events/replay", json=body)

    problem(answer, 422, "invalid")
    assert pointer is None or [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1969-12-31T00:00:00Z"])
async def test_times_beyond_all_bounds_choose_all_or_nothing(moment: str, shared: Penstock) -> None:
    chosen = {"q": uuid.uuid4().hex, "created_after": moment}

    replay = await replay_many(shared, filter=chosen)

    assert (await completed(shared, replay))["events"] == 0


async def test_a_replay_to_a_paused_schedule_that_rejects_is_refused(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    await delivered(shared, hook, b"1")
    closed = await shared.schedule("quick", is_paused=True, on_paused="reject")
    chosen = {"schedule_id": schedule_of(hook)}
    for body in ({"filter": chosen, "schedule_id": closed["id"]}, {"filter": {"schedule_id": closed["id"]}}):
        answer = await shared.client.post("/v1/events/replay", json=body)
        assert "is paused, and it rejects" in problem(answer, 409, "conflict")

    queues = await shared.schedule("quick", is_paused=True)
    replay = await replay_many(shared, filter=chosen, schedule_id=queues["id"])
    await completed(shared, replay)
    [run] = await runs_of(shared, replay["id"])
    assert (run["state"], run["schedule_id"]) == ("queued", queues["id"])


async def test_a_cancelled_replay_makes_no_further_runs(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    for n in range(12):
        await delivered(shared, hook, b"%d" % n)
    replay = await replay_many(shared, filter={"schedule_id": schedule_of(hook)}, rate_per_s=2)
    running = await shared.client.get("/v1/replays", params={"state": "running"})
    assert replay["id"] in [one["id"] for one in running.json()["items"]]

    answer = await shared.client.post(f"/v1/replays/{replay['number']}/cancel")

    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    assert answer.json()["finished_at"] is not None
    made = len(await runs_of(shared, replay["id"]))
    assert answer.json()["runs"] == made < 12
    again = await shared.client.post(f"/v1/replays/{replay['id']}/cancel")
    assert problem(again, 409, "conflict") == f"Replay {replay['id']} has ended already: cancelled."
    other = await replay_many(shared, filter={"schedule_id": schedule_of(hook)}, rate_per_s=1000)
    await completed(shared, other)  # whoever moved that one on would have moved the cancelled one on, too
    assert len(await runs_of(shared, replay["id"])) == made
    problem(await shared.client.post(f"/v1/replays/{UNKNOWN}/cancel"), 404, "not_found")


async def test_replays_are_listed_the_newest_first(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    event_id = await delivered(shared, hook, b"1")
    one = (await replayed(shared, event_id)).json()["replay_id"]
    many = await replay_many(shared, filter={"schedule_id": schedule_of(hook)})
    await completed(shared, many)

    page = (await shared.client.get("/v1/replays", params={"limit": 2})).json()

    assert [item["id"] for item in page["items"]] == [many["id"], one]
    rest = await shared.client.get("/v1/replays", params={"limit": 2, "cursor": page["next_cursor"]})
    assert one not in [item["id"] for item in rest.json()["items"]]
    single = page["items"][1]
    assert (single["event_id"], single["filter"], single["state"]) == (event_id, None, "completed")
    assert (single["events"], single["accepted"], single["runs"], single["progress"]) == (1, 1, 1, 1.0)
    for path in (f"/v1/replays/{UNKNOWN}", "/v1/replays/none", "/v1/replays/999999"):
        problem(await shared.client.get(path), 404, "not_found")
    problem(await shared.client.get("/v1/runs", params={"replay_id": UNKNOWN}), 404, "not_found")


async def test_who_replayed_what_is_written_down(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    event_id = await delivered(shared, hook, b"1")
    one = (await replayed(shared, event_id)).json()["replay_id"]
    many = await replay_many(shared, filter={"schedule_id": schedule_of(hook), "q": "1"}, rate_per_s=1)
    await shared.client.post(f"/v1/replays/{many['id']}/cancel")

    async def deeds(replay_id: str) -> list[tuple[str, Json]]:
        answer = await shared.client.get("/v1/audit", params={"subject": f"replay:{replay_id}"})
        return [(entry["action"], entry["details"]) for entry in reversed(answer.json()["items"])]

    assert await deeds(one) == [
        ("replay.create", {"event_id": event_id, "mode": "as_was", "schedule_id": schedule_of(hook), "runs": 1})
    ]
    [(action, details), *rest] = await deeds(many["id"])
    assert (action, details["filter"]) == ("replay.create", {"schedule_id": schedule_of(hook), "q": "1"})
    assert rest in ([], [("replay.cancel", {})])  # it may have been quicker


async def test_a_replayed_run_is_drawn_behind_the_one_that_it_repeats(shared: Penstock) -> None:
    event_id = await delivered(shared, await shared.hook("quick"), b"1")
    [old] = (await inspected(shared, event_id))["runs"]
    [new] = (await replayed(shared, event_id)).json()["runs"]

    lineage = (await shared.client.get(f"/v1/runs/{new['id']}/lineage")).json()

    assert {(edge["from"], edge["to"], edge["type"]) for edge in lineage["edges"]} == {
        (f"event:{event_id}", f"run:{old['id']}", "starts"),
        (f"run:{old['id']}", f"run:{new['id']}", "replays"),
    }


async def test_what_todays_filter_and_mapping_say_counts(shared: Penstock) -> None:
    hook = await shared.hook("steps", variables={"seconds": 0.0}, mapping={"seconds": "double(body.pause)"})
    events = [await delivered(shared, hook, json.dumps({"pause": pause, "n": n})) for n, pause in enumerate((0, 0.01))]
    wrong = await delivered(shared, hook, b'{"n": 2}')
    assert (await inspected(shared, wrong))["reason_code"] == "mapping_failed"
    rules = {"filter": "body.n != 0", "mapping": {"seconds": "has(body.pause) ? 0.002 : 0.001"}}
    await change(shared, hook, **rules)
    chosen = {"schedule_id": schedule_of(hook)}

    first = (await replayed(shared, events[0], mode="today", dry_run=True)).json()
    second = (await replayed(shared, events[1], mode="today", dry_run=True)).json()
    broken = await replay_many(shared, filter=chosen | {"verdict": "rejected"}, rate_per_s=1000)
    accepted = await replay_many(shared, filter=chosen, mode="today", rate_per_s=1000)

    assert (first["was"]["verdict"], first["verdict"], first["reason_code"]) == ("accepted", "filtered", "filter_false")
    assert [(run["now"], run["differences"]) for run in first["runs"]] == [(None, [])]
    assert second["runs"][0]["differences"] == [{"pointer": "/variables/seconds", "then": 0.01, "now": 0.002}]
    assert [(await completed(shared, broken))[count] for count in ("events", "accepted", "runs")] == [1, 1, 1]
    assert [(await completed(shared, accepted))[count] for count in ("filtered", "accepted", "runs")] == [1, 1, 1]
    for replay, event_id, seconds in ((broken, wrong, 0.001), (accepted, events[1], 0.002)):
        [run] = await runs_of(shared, replay["id"])
        ended = await shared.ended(run["id"])
        assert (ended["event_id"], ended["state"], ended["variables"]) == (event_id, "success", {"seconds": seconds})
    event = await inspected(shared, events[0])
    assert event["rules"] == {
        "filter": None,
        "mapping": {"seconds": "double(body.pause)"},
        "dedupe": None,
        "split": False,
    }


async def test_a_replay_is_no_duplicate_and_uses_up_no_key(shared: Penstock) -> None:
    hook = await shared.hook("quick", dedupe="'order-' + string(body.order)", is_paused=True, on_paused="reject")
    event_id = await delivered(shared, hook, b'{"order": 7}')
    await change(shared, hook, is_paused=False)

    again = [await replayed(shared, event_id, mode="today") for _ in range(2)]
    later = await shared.deliver(hook, b'{"order": 7}')

    assert [answer.status_code for answer in again] == [202, 202]
    assert later.json()["status"] == "accepted"
    assert (await inspected(shared, event_id))["replays"] == 2


async def test_rules_that_read_what_is_not_stored_cannot_judge_again(shared: Penstock) -> None:
    hook = await shared.hook("quick", filter="headers['x-api-key'] == 'sesame'")
    event_id = await delivered(shared, hook, b"1", x_api_key="sesame")

    assert "are not stored" in problem(await replayed(shared, event_id, mode="today"), 409, "conflict")
    assert (await replayed(shared, event_id)).status_code == 202
