"""Replays of many events: which, in what order, how far, and what is written down."""

import json
import uuid

import pytest

from tests.inspecting import (
    change,
    completed,
    delivered,
    inspected,
    refused_event,
    replay_many,
    replayed,
    runs_of,
    schedule_of,
)
from tests.problems import problem
from tests.system import Json, Penstock

UNKNOWN = "0198f0a0-0000-7000-8000-000000000001"


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
