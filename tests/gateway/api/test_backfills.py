"""`/v1/backfills`: what a request comes to, what is refused, and whole bodies."""

from typing import Any

import pytest

from tests.problems import problem
from tests.system import Json, Penstock

BACKFILLS = "/v1/pipelines/quick/backfills"
YEAR_OF_DAYS = {"start": "2023-01-01", "end": "2023-12-31"}
PARIS = "Europe/Paris"


async def create(shared: Penstock, pipeline_id: str = "quick", *, status: int = 202, **body: Any) -> Json:
    answer = await shared.client.post(f"/v1/pipelines/{pipeline_id}/backfills", json=body)
    assert answer.status_code == status, answer.text
    assert status == 200 or answer.headers["location"].endswith(f"/v1/backfills/{answer.json()['id']}")
    return dict(answer.json())


async def preview(shared: Penstock, pipeline_id: str = "quick", **body: Any) -> Json:
    return await create(shared, pipeline_id, status=200, dry_run=True, **body)


async def steer(shared: Penstock, backfill: Json, verb: str, *, status: int = 200) -> Json:
    answer = await shared.client.post(f"/v1/backfills/{backfill['id']}/{verb}")
    assert answer.status_code == status, answer.text
    return dict(answer.json())


async def test_a_backfill_is_one_run_for_each_date(shared: Penstock) -> None:
    await shared.client.patch("/v1/pipelines/steps", json={"is_paused": True})

    backfill = await create(
        shared, "steps", start="2024-02-27", end="2024-03-02", variables={"seconds": 0.0}, max_active_runs=2
    )

    assert backfill == {
        "id": backfill["id"],
        "number": backfill["number"],
        "pipeline_id": "steps",
        "schedule_id": None,
        "key": None,
        "start": "2024-02-27T00:00:00Z",
        "end": "2024-03-02T00:00:00Z",
        "every": "day",
        "timezone": "UTC",
        "variables": {"seconds": 0.0},
        "max_active_runs": 2,
        "state": "running",
        "total": 5,
        "queued": 5,
        "running": 0,
        "success": 0,
        "failed": 0,
        "cancelled": 0,
        "created_at": backfill["created_at"],
        "cancelled_at": None,
    }
    for name in (backfill["id"], backfill["number"]):
        assert (await shared.client.get(f"/v1/backfills/{name}")).json() == backfill
        runs = (await shared.client.get("/v1/runs", params={"backfill_id": name})).json()["items"]
    days = ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"]
    assert [run["logical_date"] for run in reversed(runs)] == [f"{day}T00:00:00Z" for day in days]
    assert {(run["origin"], run["state"], run["backfill_id"]) for run in runs} == {
        ("backfill", "queued", backfill["id"])
    }
    await steer(shared, backfill, "cancel", status=202)
    await shared.client.patch("/v1/pipelines/steps", json={"is_paused": False})


async def test_a_variable_can_hold_the_date_of_each_run_where_its_clocks_are(shared: Penstock) -> None:
    await shared.client.patch("/v1/pipelines/quick", json={"is_paused": True})
    wanted = {"start": "2024-03-31", "end": "2024-04-01", "timezone": PARIS, "date_variable": "date"}
    odd = {"date": "mine", "odd": '\x00 \\"}'}
    made = []
    for variables, kept in ({}, {}), (odd, {"odd": odd["odd"]}):
        made.append(await create(shared, **wanted, variables=variables))
        runs = (await shared.client.get("/v1/runs", params={"backfill_id": made[-1]["id"]})).json()["items"]
        dates = [kept | {"date": day} for day in ("2024-03-31", "2024-04-01")]
        assert [run["variables"] for run in reversed(runs)] == dates
        assert made[-1]["variables"] == kept

    made.append(await create(shared, **wanted | {"date_variable": "day"}))
    again = await create(shared, **wanted, status=200)

    assert again["id"] == made[0]["id"] != made[2]["id"]
    for backfill in made:
        await steer(shared, backfill, "cancel", status=202)
    await shared.client.patch("/v1/pipelines/quick", json={"is_paused": False})


async def test_the_variable_of_the_date_must_be_one_of_the_pipeline_s(shared: Penstock) -> None:
    wanted = {"start": "2024-03-31", "end": "2024-04-01"}
    number = await shared.client.post("/v1/pipelines/steps/backfills", json=wanted | {"date_variable": "seconds"})
    nameless = await shared.client.post(BACKFILLS, json=wanted | {"date_variable": "no name"})

    problem(number, 422, "invalid")
    problem(nameless, 422, "invalid")
    assert [answer.json()["errors"][0]["pointer"] for answer in (number, nameless)] == [
        "/variables/seconds",
        "/date_variable",
    ]


async def test_a_dry_run_counts_and_writes_nothing(shared: Penstock) -> None:
    before = (await shared.client.get("/v1/backfills")).json()

    answer = await preview(shared, **YEAR_OF_DAYS)

    assert answer == {
        "count": 365,
        "first": "2023-01-01T00:00:00Z",
        "last": "2023-12-31T00:00:00Z",
        "dates": [f"2023-01-{day:02}T00:00:00Z" for day in range(1, 11)],
    }
    assert (await shared.client.get("/v1/backfills")).json() == before


@pytest.mark.parametrize(
    ("asked", "count", "first", "last"),
    [
        ({"start": "2024-01-01", "end": "2024-01-01"}, 1, "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ({"start": "2024-01-01", "end": "2024-01-02", "every": "hour"}, 48,
         "2024-01-01T00:00:00Z", "2024-01-02T23:00:00Z"),
        ({"start": "2024-01-01T06:00:00Z", "end": "2024-01-02T00:00:00Z"}, 1,
         "2024-01-02T00:00:00Z", "2024-01-02T00:00:00Z"),
        ({"start": "2024-01-03", "end": "2024-01-31", "every": "week"}, 4,
         "2024-01-08T00:00:00Z", "2024-01-29T00:00:00Z"),
        ({"start": "2024-01-31", "end": "2024-12-31", "every": "month"}, 11,
         "2024-02-01T00:00:00Z", "2024-12-01T00:00:00Z"),
        ({"start": "2024-01-01", "end": "2024-01-31", "every": "30 3 * * MON-FRI", "timezone": PARIS}, 23,
         "2024-01-01T02:30:00Z", "2024-01-31T02:30:00Z"),
        ({"start": "2024-03-30", "end": "2024-04-01", "timezone": PARIS}, 3,
         "2024-03-29T23:00:00Z", "2024-03-31T22:00:00Z"),
        ({"start": "2024-03-31", "end": "2024-03-31", "every": "hour", "timezone": PARIS}, 23,
         "2024-03-30T23:00:00Z", "2024-03-31T21:00:00Z"),
        ({"start": "2024-10-27", "end": "2024-10-27", "every": "hour", "timezone": PARIS}, 25,
         "2024-10-26T22:00:00Z", "2024-10-27T22:00:00Z"),
        ({"start": "2024-10-26", "end": "2024-10-28", "timezone": PARIS}, 3,
         "2024-10-25T22:00:00Z", "2024-10-27T23:00:00Z"),
        ({"start": "2024-03-31", "end": "2024-03-31", "every": "30 2 * * *", "timezone": PARIS}, 1,
         "2024-03-31T01:00:00Z", "2024-03-31T01:00:00Z"),
    ],
)  # fmt: skip
async def test_dates_are_what_the_clock_on_the_wall_says(
    shared: Penstock, asked: Json, count: int, first: str, last: str
) -> None:
    answer = await preview(shared, **asked)

    assert (answer["count"], answer["first"], answer["last"]) == (count, first, last)


async def test_the_times_of_a_schedule_are_taken_from_before_it_began(shared: Penstock) -> None:
    nightly = await shared.schedule(
        "steps", kind="time", cron="30 2 * * *", timezone=PARIS, start_at="2030-01-01T00:00:00Z", is_paused=True,
        variables={"seconds": 0.0, "diary": ""},
    )  # fmt: skip
    regular = await shared.schedule(
        "steps", kind="time", every_s=21_600, start_at="2030-01-01T01:00:00Z", is_paused=True
    )
    days = {"start": "2024-06-01", "end": "2024-06-02", "every": "schedule"}

    assert (await preview(shared, "steps", schedule_id=nightly["id"], **days))["dates"] == [
        "2024-06-01T00:30:00Z",
        "2024-06-02T00:30:00Z",
    ]
    assert (await preview(shared, "steps", schedule_id=str(regular["number"]), **days))["dates"] == [
        f"2024-06-0{day}T{hour:02}:00:00Z" for day in (1, 2) for hour in (1, 7, 13, 19)
    ]
    backfill = await create(shared, "steps", schedule_id=nightly["id"], **days, variables={"seconds": 0.5})
    assert (backfill["schedule_id"], backfill["timezone"]) == (nightly["id"], PARIS)
    assert backfill["variables"] == {"seconds": 0.5, "diary": ""}
    await steer(shared, backfill, "cancel", status=202)


async def test_the_same_request_is_the_same_backfill_unless_its_key_is_another(shared: Penstock) -> None:
    asked = {"start": "2022-05-01", "end": "2022-05-03", "max_active_runs": 3}
    first = await create(shared, **asked)

    again = await create(shared, status=200, **asked)
    in_other_words = await create(
        shared, status=200, start="2022-05-01T00:00:00+00:00", end="2022-05-03T12:00:00+02:00", every="0 0 * * *"
    )
    others = [
        await create(shared, **asked, key="again"),
        await create(shared, **asked, key="once more"),
        await create(shared, **asked, timezone=PARIS),
        await create(shared, **asked | {"end": "2022-05-04"}),
    ]

    assert (again["id"], in_other_words["id"]) == (first["id"], first["id"])
    assert len({first["id"], *(other["id"] for other in others)}) == 5
    assert [other["key"] for other in others] == ["again", "once more", None, None]
    assert (await create(shared, status=200, **asked, key="again"))["id"] == others[0]["id"]


async def test_backfills_are_listed_by_pipeline_and_state(shared: Penstock) -> None:
    ended = await create(shared, start="2021-01-01", end="2021-01-01")
    await shared.client.patch("/v1/pipelines/steps", json={"is_paused": True})
    steps = [await create(shared, "steps", start="2021-01-01", end="2021-01-02", key=key) for key in "abc"]
    await steer(shared, steps[1], "pause")
    await steer(shared, steps[2], "cancel", status=202)

    async def found(**params: str) -> list[str]:
        items = (await shared.client.get("/v1/backfills", params={"limit": "200"} | params)).json()["items"]
        return [item["id"] for item in items]

    steps_ids = [backfill["id"] for backfill in steps]
    assert [name for name in await found(pipeline_id="steps") if name in steps_ids] == steps_ids[::-1]
    for state, backfill in zip(("running", "paused", "cancelled"), steps, strict=True):
        assert [name for name in await found(state=state) if name in steps_ids] == [backfill["id"]]
    assert ended["id"] not in await found(pipeline_id="steps")
    for backfill in steps[:2]:
        await steer(shared, backfill, "cancel", status=202)
    await shared.client.patch("/v1/pipelines/steps", json={"is_paused": False})


async def test_a_cancelled_backfill_stays_it(shared: Penstock) -> None:
    await shared.client.patch("/v1/pipelines/steps", json={"is_paused": True})
    backfill = await create(shared, "steps", start="2020-01-01", end="2020-01-31")
    assert (await steer(shared, backfill, "pause"))["state"] == "paused"
    assert (await steer(shared, backfill, "pause"))["state"] == "paused"
    assert (await steer(shared, backfill, "unpause"))["state"] == "running"

    cancelled = await steer(shared, backfill, "cancel", status=202)

    assert (cancelled["state"], cancelled["cancelled"], cancelled["queued"]) == ("cancelled", 31, 0)
    assert cancelled["cancelled_at"]
    trail = (await shared.client.get("/v1/audit", params={"subject": f"backfill:{backfill['id']}"})).json()["items"]
    verbs = ["create", "pause", "pause", "unpause", "cancel"]
    assert [entry["action"] for entry in reversed(trail)] == [f"backfill.{verb}" for verb in verbs]
    assert trail[-1]["details"]["total"] == 31
    for verb in ("pause", "unpause", "cancel"):
        answer = await shared.client.post(f"/v1/backfills/{backfill['id']}/{verb}")
        assert "cancelled" in problem(answer, 409, "conflict")
    problem(await shared.client.patch(f"/v1/backfills/{backfill['id']}", json={"max_active_runs": 2}), 409, "conflict")
    runs = (await shared.client.get("/v1/runs", params={"backfill_id": backfill["id"]})).json()["items"]
    assert {run["state"] for run in runs} == {"cancelled"}
    events = [event async for event in shared.events(f"/v1/runs/{runs[0]['id']}/stream")]
    assert [event["data"]["state"] for event in events] == ["queued", "cancelled", "cancelled"]
    await shared.client.patch("/v1/pipelines/steps", json={"is_paused": False})


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"start": "2024-02-30"}, "/start"),
        ({"start": "yesterday"}, "/start"),
        ({"start": "2024-01-01T00:00:00"}, "/start"),
        ({"end": "2023-12-31"}, "/end"),
        ({"end": "9999-12-31"}, "/end"),
        ({"end": "2525-01-01", "every": "hour"}, "/end"),
        ({"every": "fortnight"}, "/every"),
        ({"every": "61 * * * *"}, "/every"),
        ({"every": "0 0 30 2 *"}, "/every"),
        ({"every": "0 12 1 7 *"}, "/end"),
        ({"every": "schedule"}, "/schedule_id"),
        ({"schedule_id": "0198c0de-0000-7000-8000-000000000000"}, "/schedule_id"),
        ({"timezone": "Europe/Pariss"}, "/timezone"),
        ({"max_active_runs": 0}, "/max_active_runs"),
        ({"key": ""}, "/key"),
        ({"colour": "red"}, ""),
    ],
)
async def test_a_request_that_makes_no_sense_says_where(shared: Penstock, change: Json, pointer: str) -> None:
    answer = await shared.client.post(BACKFILLS, json={"start": "2024-01-01", "end": "2024-01-31"} | change)

    problem(answer, 422, "invalid")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_paused_pipeline_that_rejects_runs_rejects_backfills(shared: Penstock) -> None:
    await shared.client.patch("/v1/pipelines/steps", json={"is_paused": True, "on_paused": "reject"})
    answer = await shared.client.post(
        "/v1/pipelines/steps/backfills", json={"start": "2024-01-01", "end": "2024-01-31"}
    )
    await shared.client.patch("/v1/pipelines/steps", json={"is_paused": False, "on_paused": "queue"})

    assert "is paused" in problem(answer, 409, "conflict")


async def test_variables_and_schedules_must_be_the_pipeline_s(shared: Penstock) -> None:
    days = {"start": "2024-01-01", "end": "2024-01-31"}
    wrong = await shared.client.post("/v1/pipelines/steps/backfills", json=days | {"variables": {"seconds": "long"}})
    assert "/variables/seconds" in problem(wrong, 422, "invalid")
    hook = await shared.schedule("quick")
    foreign = await shared.client.post("/v1/pipelines/steps/backfills", json=days | {"schedule_id": hook["id"]})
    assert "starts pipeline quick" in problem(foreign, 422, "invalid")
    untimed = await shared.client.post(BACKFILLS, json=days | {"schedule_id": hook["id"], "every": "schedule"})
    assert "by a token" in problem(untimed, 422, "invalid")
    problem(await shared.client.post("/v1/pipelines/nobody/backfills", json=days), 404, "not_found")
    problem(await shared.client.get("/v1/backfills/999999"), 404, "not_found")
    problem(await shared.client.get("/v1/runs", params={"backfill_id": "nonsense"}), 404, "not_found")
