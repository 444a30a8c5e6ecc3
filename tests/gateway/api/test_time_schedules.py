"""Schedules of kind `time` over the API: what they may say, when they fire next, and where their clocks stand."""

import datetime as dt
from collections.abc import AsyncIterator

import pytest

from tests.faults import Connection
from tests.problems import problem
from tests.system import Json, Penstock
from tests.waiting import eventually

NEVER_IN_A_TEST = "0 3 29 2 *"
ONLY_TIME = "only a schedule of kind time has it"
NONE_FOR_TIME = "a schedule of kind time has none"


@pytest.fixture
async def made(shared: Penstock) -> AsyncIterator[list[str]]:
    """The ids of schedules to delete afterwards."""
    ids: list[str] = []
    yield ids
    for schedule_id in ids:
        await shared.client.delete(f"/v1/schedules/{schedule_id}")


async def timed(shared: Penstock, made: list[str], pipeline_id: str = "quick", **fields: object) -> Json:
    schedule = await shared.schedule(pipeline_id, **({"kind": "time", "cron": NEVER_IN_A_TEST} | fields))
    made.append(schedule["id"])
    return schedule


async def patched(shared: Penstock, schedule: Json, **fields: object) -> Json:
    answer = await shared.client.patch(f"/v1/schedules/{schedule['id']}", json=fields)
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def get(shared: Penstock, path: str, **query: str) -> Json:
    answer = await shared.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def items(shared: Penstock, path: str, **query: str) -> list[Json]:
    found: list[Json] = (await get(shared, path, **query))["items"]
    return found


def in_days(days: int) -> str:
    moment = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=days)
    return moment.isoformat().replace("+00:00", "Z")


async def test_a_time_schedule_says_when_it_fires_next(shared: Penstock, made: list[str]) -> None:
    schedule = await timed(shared, made, cron="30 3 1 1 *", timezone="Europe/Paris", overlap="skip")

    assert schedule == schedule | {
        "kind": "time",
        "cron": "30 3 1 1 *",
        "every_s": None,
        "timezone": "Europe/Paris",
        "start_at": None,
        "end_at": None,
        "catchup": False,
        "jitter_s": 0,
        "overlap": "skip",
        "last_fired_at": None,
    }
    assert schedule["next_fire_at"].endswith("-01-01T02:30:00Z")
    assert await get(shared, f"/v1/schedules/{schedule['number']}") == schedule
    following = await get(shared, f"/v1/schedules/{schedule['id']}/next", count="2")
    year = int(schedule["next_fire_at"][:4])
    slots = [f"{year}-01-01T02:30:00Z", f"{year + 1}-01-01T02:30:00Z"]
    assert following == {"items": [{"slot": slot, "due_at": slot} for slot in slots], "next_cursor": None}
    assert len((await get(shared, f"/v1/schedules/{schedule['id']}/next"))["items"]) == 10


async def test_jitter_makes_a_slot_due_later_and_the_next_ones_say_so(shared: Penstock, made: list[str]) -> None:
    schedule = await timed(shared, made, jitter_s=3600)
    first, second = (await get(shared, f"/v1/schedules/{schedule['id']}/next", count="2"))["items"]

    assert first["due_at"] == schedule["next_fire_at"]
    assert first["slot"] <= first["due_at"] <= first["slot"].replace("T03:", "T04:")
    assert first["due_at"][4:] != second["due_at"][4:]
    calm = await patched(shared, schedule, jitter_s=0)
    assert calm["next_fire_at"] == first["slot"]


@pytest.mark.parametrize(
    ("fields", "pointer", "message"),
    [
        ({"kind": "time"}, "/cron", "a time schedule has either cron or every_s, and not both"),
        (
            {"kind": "time", "cron": "@daily", "every_s": 60},
            "/cron",
            "a time schedule has either cron or every_s, and not both",
        ),
        (
            {"kind": "time", "cron": "0 24 * * *"},
            "/cron",
            "the hour '24' is not valid; it takes 0-23, lists a,b, ranges a-b and steps */n",
        ),
        (
            {"kind": "time", "cron": "@daily", "timezone": "Europe/Pari"},
            "/timezone",
            "there is no time zone 'Europe/Pari'; did you mean Europe/Paris?",
        ),
        ({"kind": "time", "every_s": 60, "jitter_s": 60}, "/jitter_s", "it must be smaller than every_s"),
        ({"kind": "time", "every_s": 60, "end_at": "2020-01-01T00:00:00Z"}, "/end_at", "it would never fire"),
        (
            {"kind": "time", "every_s": 60, "catchup": True, "start_at": "2020-01-01T00:00:00Z"},
            "/start_at",
            "more than 1000 runs would be caught up at once; a backfill paces them",
        ),
        ({"kind": "time", "cron": "@daily", "source": "github"}, "/source", NONE_FOR_TIME),
        ({"kind": "time", "cron": "@daily", "source_config": {"secrets": ["x"]}}, "/source_config", NONE_FOR_TIME),
        ({"kind": "time", "cron": "@daily", "body_limit": 5}, "/body_limit", NONE_FOR_TIME),
        ({"cron": "@daily"}, "/cron", ONLY_TIME),
        ({"every_s": 60}, "/every_s", ONLY_TIME),
        ({"timezone": "Mars"}, "/timezone", "there is no time zone 'Mars'; it takes an IANA name such as Europe/Paris"),
        ({"catchup": True}, "/catchup", ONLY_TIME),
        ({"overlap": "skip"}, "/overlap", ONLY_TIME),
    ],
)
async def test_what_does_not_fit_is_refused_and_named(
    shared: Penstock, fields: Json, pointer: str, message: str
) -> None:
    answer = await shared.client.post("/v1/schedules", json={"pipeline_id": "quick", "name": "test"} | fields)

    problem(answer, 422, "invalid")
    assert answer.json()["errors"] == [{"pointer": pointer, "message": message}]


async def test_a_patch_moves_the_clock_and_a_cron_replaces_an_interval(shared: Penstock, made: list[str]) -> None:
    schedule = await timed(shared, made)

    every = await patched(shared, schedule, every_s=86_400, start_at=in_days(400))
    assert (every["cron"], every["every_s"], every["next_fire_at"]) == (None, 86_400, every["start_at"])
    back = await patched(shared, schedule, cron=NEVER_IN_A_TEST, start_at=None)
    assert (back["every_s"], back["next_fire_at"]) == (None, schedule["next_fire_at"])
    named = await patched(shared, schedule, name="other", catchup=True)
    assert named["next_fire_at"] == schedule["next_fire_at"]
    ended = await patched(shared, schedule, end_at=in_days(-1))
    assert ended["next_fire_at"] is None
    assert (await get(shared, f"/v1/schedules/{schedule['id']}/next"))["items"] == []

    for wrong in ({"cron": None}, {"cron": "a b c d e"}, {"source": "github"}, {"start_at": in_days(1)}):
        problem(await shared.client.patch(f"/v1/schedules/{schedule['id']}", json=wrong), 422, "invalid")
    problem(await shared.client.patch(f"/v1/schedules/{schedule['id']}", json={"kind": "api"}), 422, "invalid")
    assert await get(shared, f"/v1/schedules/{schedule['id']}") == ended


async def test_a_schedule_with_a_start_that_has_passed_is_caught_up_only_if_it_says_so(
    shared: Penstock, made: list[str]
) -> None:
    start = in_days(-3)
    patient = await timed(shared, made, cron=None, every_s=86_400, start_at=start, catchup=True, is_paused=True)
    hasty = await timed(shared, made, cron=None, every_s=86_400, start_at=start, is_paused=True)

    assert patient["next_fire_at"] == start
    assert hasty["next_fire_at"] > in_days(0)[:16]


async def test_a_time_schedule_has_no_tokens_and_an_api_schedule_no_clock(shared: Penstock, made: list[str]) -> None:
    schedule = await timed(shared, made)
    for kind in ("tokens", "links"):
        refused = await shared.client.post(f"/v1/schedules/{schedule['id']}/{kind}")
        assert "the clock starts it" in problem(refused, 409, "conflict")

    called = await shared.schedule()
    assert (called["next_fire_at"], called["last_fired_at"]) == (None, None)
    refused = await shared.client.get(f"/v1/schedules/{called['id']}/next")
    assert "it is started by a token" in problem(refused, 409, "conflict")
    problem(await shared.client.patch(f"/v1/schedules/{called['id']}", json={"cron": "@daily"}), 422, "invalid")


async def test_the_scheduler_lists_its_clocks_in_the_order_in_which_they_fire(
    shared: Penstock, made: list[str], shared_connection: Connection
) -> None:
    starts = [500, 300, 400]
    schedules = [
        await timed(shared, made, "spreads", cron=None, every_s=60, start_at=in_days(days), name=str(days))
        for days in starts
    ]
    await patched(shared, schedules[2], end_at=in_days(-1), start_at=None, is_paused=True)

    shown = await get(shared, "/v1/scheduler", pipeline_id="spreads")
    assert [item["name"] for item in shown["items"]] == ["300", "500", "400"]
    assert shown["items"][0] == {
        "schedule_id": schedules[1]["id"],
        "number": schedules[1]["number"],
        "name": "300",
        "pipeline_id": "spreads",
        "cron": None,
        "every_s": 60,
        "timezone": "UTC",
        "is_paused": False,
        "next_fire_at": schedules[1]["start_at"],
        "last_slot": None,
        "last_fired_at": None,
        "skipped": 0,
        "lag_s": 0.0,
    }
    last = shown["items"][-1]
    assert (last["is_paused"], last["next_fire_at"], last["lag_s"]) == (True, None, None)

    names: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = await get(shared, "/v1/scheduler", pipeline_id="spreads", limit="1", **cursor)
        names += [item["name"] for item in page["items"]]
        cursor = {"cursor": page["next_cursor"]}
    assert (names, page["next_cursor"]) == (["300", "500", "400"], None)
    problem(await shared.client.get("/v1/scheduler", params={"cursor": "bm9uZQ"}), 422, "invalid")

    for schedule in schedules:
        await shared.client.delete(f"/v1/schedules/{schedule['id']}")
    assert (await get(shared, "/v1/scheduler", pipeline_id="spreads"))["items"] == []
    assert not await shared_connection.fetchval(
        "SELECT count(*) FROM clocks WHERE schedule_id = ANY ($1::uuid[]) AND due_at IS NOT NULL", made
    )


async def test_a_timetable_can_be_tried_before_a_schedule_has_it(shared: Penstock) -> None:
    query = {"cron": "30 2 * * *", "timezone": "Europe/Paris", "start_at": "2030-03-30T12:00:00Z", "count": "2"}
    assert await get(shared, "/v1/timetable", **query) == {"items": ["2030-03-31T01:00:00Z", "2030-04-01T00:30:00Z"]}
    assert len((await get(shared, "/v1/timetable", every_s="90"))["items"]) == 10

    for wrong in ({}, {"cron": "* *"}, {"cron": "@daily", "timezone": "Mars"}, {"cron": "@daily", "count": "0"}):
        problem(await shared.client.get("/v1/timetable", params=wrong), 422, "invalid")


async def test_a_slot_becomes_a_run_with_the_variables_of_its_schedule(
    shared: Penstock, made: list[str], shared_connection: Connection
) -> None:
    schedule = await timed(
        shared, made, "steps", cron=None, every_s=3600, variables={"seconds": 0.01}, end_at=in_days(1)
    )
    await shared_connection.execute(
        "UPDATE clocks SET next_slot = next_slot - interval '1 hour', due_at = due_at - interval '1 hour' "
        "WHERE schedule_id = $1",
        schedule["id"],
    )
    listed = {"path": "/v1/runs", "schedule_id": schedule["id"]}
    run = (await eventually(lambda: items(shared, **listed)))[0]
    run = await shared.ended(run["id"])

    assert (run["state"], run["origin"], run["event_id"], run["run_key"]) == ("success", "time", None, None)
    assert (run["schedule_id"], run["variables"]) == (schedule["id"], {"seconds": 0.01})
    slot = dt.datetime.fromisoformat(schedule["next_fire_at"]) - dt.timedelta(hours=1)
    assert dt.datetime.fromisoformat(run["logical_date"]) == slot
    after = await get(shared, f"/v1/schedules/{schedule['id']}")
    assert after["next_fire_at"] == schedule["next_fire_at"]
    assert after["last_fired_at"] is not None
    assert after["updated_at"] == schedule["updated_at"]
