"""Replays of one event: as it was or by today's rules, to which schedule, compared first, and refused with a reason."""

import json

import pytest

from tests.faults import Connection
from tests.inspecting import (
    change,
    completed,
    delivered,
    found,
    inspected,
    refused_event,
    replay_many,
    replayed,
    schedule_of,
)
from tests.problems import problem
from tests.system import Json, Penstock
from tests.waiting import eventually

UNKNOWN = "0198f0a0-0000-7000-8000-000000000001"


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


async def test_a_replayed_run_is_drawn_behind_the_one_that_it_repeats(shared: Penstock) -> None:
    event_id = await delivered(shared, await shared.hook("quick"), b"1")
    [old] = (await inspected(shared, event_id))["runs"]
    [new] = (await replayed(shared, event_id)).json()["runs"]

    lineage = (await shared.client.get(f"/v1/runs/{new['id']}/lineage")).json()

    assert {(edge["from"], edge["to"], edge["type"]) for edge in lineage["edges"]} == {
        (f"event:{event_id}", f"run:{old['id']}", "starts"),
        (f"run:{old['id']}", f"run:{new['id']}", "replays"),
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


async def test_a_body_in_the_object_store_is_shown_from_its_beginning_and_judged_whole(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    body = json.dumps(["x" * 200_000, "y" * 200_000])
    event_id = await delivered(shared, hook, body)
    await change(shared, hook, split=True, filter="size(body) > 10")

    event = await inspected(shared, event_id)
    as_was = await replayed(shared, event_id)
    today = await replayed(shared, event_id, mode="today")

    assert event["body_preview"] == {"format": "text", "value": body[: 16 << 10], "truncated": True}
    [run] = as_was.json()["runs"]
    assert (await shared.ended(run["id"]))["event_variables"]["size"] == len(body)
    runs = [await shared.ended(run["id"]) for run in today.json()["runs"]]
    assert [(run["state"], run["event_variables"][:1]) for run in runs] == [("success", "x"), ("success", "y")]
