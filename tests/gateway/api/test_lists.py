"""Lists: pages that show everything once, filters that are what they say, and parameters that are read strictly."""

import datetime as dt
import uuid

import pytest

from tests.problems import problem
from tests.system import Json, Penstock

LISTS = ["/v1/pipelines", "/v1/schedules", "/v1/runs", "/v1/events"]


async def items(shared: Penstock, path: str, **params: object) -> list[Json]:
    answer = await shared.client.get(path, params={name: str(value) for name, value in params.items()})
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["items"]
    return found


async def all_pages(shared: Penstock, path: str, **params: object) -> list[Json]:
    found: list[Json] = []
    cursor: dict[str, str] = {}
    while True:
        query = {name: str(value) for name, value in params.items()} | cursor
        page = (await shared.client.get(path, params=query)).json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_the_pages_of_a_list_show_everything_once_and_the_newest_first(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    schedule = hook.split("/")[-2]
    sent = [await shared.delivered_run(hook, b"%d" % number) for number in range(5)]

    for limit in (1, 2, 5, 200):
        runs = await all_pages(shared, "/v1/runs", schedule_id=schedule, limit=limit)
        assert [run["id"] for run in runs] == sent[::-1]
        events = await all_pages(shared, "/v1/events", schedule_id=schedule, limit=limit)
        assert [event["id"] for event in events] == [run["event_id"] for run in runs]


async def test_a_page_stays_the_same_while_new_things_arrive(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    schedule = hook.split("/")[-2]
    old = [await shared.delivered_run(hook) for _ in range(4)]
    first = (await shared.client.get("/v1/runs", params={"schedule_id": schedule, "limit": "2"})).json()

    await shared.delivered_run(hook)
    query = {"schedule_id": schedule, "limit": "2", "cursor": first["next_cursor"]}
    second = (await shared.client.get("/v1/runs", params=query)).json()

    assert [run["id"] for run in first["items"] + second["items"]] == old[::-1]
    assert second["next_cursor"] is None


async def test_pipelines_are_listed_by_name(shared: Penstock) -> None:
    names = [pipeline["id"] for pipeline in await all_pages(shared, "/v1/pipelines", limit=3)]

    assert names == sorted(names)
    assert {"quick", "steps", "unreadable"} <= set(names)


@pytest.mark.parametrize(("q", "names"), [("UICK", ["quick"]), ("q%k", []), ("_uick", []), ("\\", []), ("%", [])])
async def test_a_search_is_for_the_very_letters_in_any_case(q: str, names: list[str], shared: Penstock) -> None:
    assert [pipeline["id"] for pipeline in await items(shared, "/v1/pipelines", q=q)] == names


async def test_schedules_are_found_by_pipeline_source_and_name(shared: Penstock) -> None:
    word = uuid.uuid4().hex
    plain = await shared.schedule("quick", name=f"plain {word} 100%")
    github = await shared.schedule("steps", name=f"hub {word}", source="github", source_config={"secrets": ["a"]})

    async def found(**params: object) -> list[str]:
        return [schedule["id"] for schedule in await items(shared, "/v1/schedules", **params)]

    assert await found(q=word) == [github["id"], plain["id"]]
    assert await found(q=word.upper(), source="github") == [github["id"]]
    assert await found(q=word, pipeline_id="quick") == [plain["id"]]
    assert await found(q=f"{word} 100%") == [plain["id"]]
    assert await found(q=f"{word}_") == []


async def test_runs_are_found_by_everything_that_they_are(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    schedule = hook.split("/")[-2]
    run = await shared.ended(await shared.delivered_run(hook))

    async def found(**params: object) -> list[str]:
        return [item["id"] for item in await items(shared, "/v1/runs", **params)]

    only = [run["id"]]
    assert await found(schedule_id=schedule) == only
    assert await found(schedule_id=(await shared.client.get(f"/v1/schedules/{schedule}")).json()["number"]) == only
    assert await found(event_id=run["event_id"]) == only
    assert await found(schedule_id=schedule, pipeline_id="quick", state="success") == only
    assert await found(schedule_id=schedule, state="failed") == []
    assert await found(schedule_id=schedule, pipeline_id="steps") == []
    assert await found(schedule_id=schedule, state="") == only  # an empty parameter is none


async def test_runs_and_events_are_found_by_time(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    schedule = hook.split("/")[-2]
    run = await shared.run(await shared.delivered_run(hook))
    made = dt.datetime.fromisoformat(run["created_at"])
    earlier, later = made - dt.timedelta(seconds=2), made + dt.timedelta(seconds=2)

    for path in ("/v1/runs", "/v1/events"):
        for params, count in (
            ({"created_after": earlier.isoformat()}, 1),
            ({"created_before": later.isoformat()}, 1),
            ({"created_after": later.isoformat()}, 0),
            ({"created_before": earlier.isoformat()}, 0),
            ({"created_after": "1969-01-01T00:00:00Z"}, 1),
            ({"created_after": "0001-01-01T00:00:00+23:59"}, 1),
            ({"created_before": "1969-01-01T00:00:00Z"}, 0),
            ({"created_before": "9999-12-31T23:59:59Z"}, 1),
        ):
            assert len(await items(shared, path, schedule_id=schedule, **params)) == count, (path, params)


async def test_a_large_payload_is_described_in_a_list_and_shown_in_the_run(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    body = b'"' + b"x" * 20_000 + b'"'
    run_id = await shared.delivered_run(hook, body)

    listed = (await items(shared, "/v1/runs", schedule_id=hook.split("/")[-2]))[0]

    assert listed["event_variables"]["size"] == len(body)
    assert (await shared.run(run_id))["event_variables"] == "x" * 20_000


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "-1"),
        ("limit", "ten"),
        ("limit", "99999999999"),
        ("limit", "٣"),
        ("cursor", "!"),
        ("cursor", "AA"),
        ("nonsense", "1"),
        ("Limit", "1"),
    ],
)
async def test_a_wrong_parameter_is_refused(path: str, name: str, value: str, shared: Penstock) -> None:
    detail = problem(await shared.client.get(path, params={name: value}), 422, "invalid")

    assert name in detail or name == "cursor"


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/v1/runs", "state", "done"),
        ("/v1/runs", "event_id", "1"),
        ("/v1/runs", "created_after", "yesterday"),
        ("/v1/runs", "created_after", "2026-01-31T12:00:00"),
        ("/v1/runs", "created_before", "2026-13-31T12:00:00Z"),
        ("/v1/events", "verdict", "fine"),
        ("/v1/events", "created_before", "1"),
    ],
)
async def test_a_wrong_filter_says_what_it_takes(path: str, name: str, value: str, shared: Penstock) -> None:
    answer = await shared.client.get(path, params={name: value})

    assert problem(answer, 422, "invalid").startswith(f"The parameter {name}: it is")
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{name}"]


@pytest.mark.parametrize("cursor", ["OTk5OTk5OTk5OQ", "LTE", "YWJj", "MjE0NzQ4MzY0OA"])
async def test_a_log_refuses_a_cursor_that_is_no_line(cursor: str, shared: Penstock) -> None:
    run_id = (await shared.client.post("/v1/pipelines/quick/runs")).json()["id"]

    problem(await shared.client.get(f"/v1/runs/{run_id}/logs", params={"cursor": cursor}), 422, "invalid")


async def test_the_pages_of_a_log_show_every_line_once(shared: Penstock) -> None:
    answer = await shared.client.post("/v1/pipelines/chatty/runs", json={"variables": {"lines": 25}})
    run = await shared.ended(answer.json()["id"])

    lines = await all_pages(shared, f"/v1/runs/{run['id']}/logs", limit=7)

    assert [line["message"] for line in lines] == [f"line {number}" for number in range(25)]
