"""A schedule's filter, mapping and dedupe key, from the request that saves them to the explanation of what they did."""

import json
from typing import Any

import pytest

from schemas.objects import INLINE_LIMIT
from tests.problems import problem
from tests.system import Json, Penstock

JSON = "application/json"


async def deliver(shared: Penstock, hook: str, body: Any, **headers: str) -> Json:
    """Send a delivery, check that the sender is told 2xx, and return what it is told."""
    answer = await shared.deliver(hook, json.dumps(body), content_type=JSON, **headers)
    told: Json = answer.json()
    is_taken = told["status"] == "accepted" and "dry_run" not in told
    assert answer.status_code == (202 if is_taken else 200), answer.text
    return told


async def read(shared: Penstock, path: str) -> Json:
    answer = await shared.client.get(path)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def by_step(explained: Json) -> dict[str, str]:
    return {step["step"]: step["finding"] for step in explained["steps"]}


async def test_only_what_the_filter_lets_in_becomes_a_run(shared: Penstock) -> None:
    hook = await shared.hook("quick", filter="body.ref == 'refs/heads/main'")

    accepted = await deliver(shared, hook, {"ref": "refs/heads/main"})
    ignored = await deliver(shared, hook, {"ref": "refs/heads/other"})

    assert accepted["status"] == "accepted"
    assert ignored == {
        "event_id": ignored["event_id"],
        "status": "ignored",
        "runs": [],
        "reason": "The filter is false.",
    }
    event = await read(shared, f"/v1/events/{ignored['event_id']}")
    assert (event["verdict"], event["reason_code"], event["reason"]) == (
        "filtered",
        "filter_false",
        "The filter is false.",
    )


NO_VALUE = "has no value for this delivery:"


@pytest.mark.parametrize(
    ("rules", "code", "reason"),
    [
        ({"filter": "body.action == 'x'"}, "filter_failed", f'The filter {NO_VALUE} there is no field "action".'),
        (
            {"filter": "body"},
            "filter_failed",
            f"The filter {NO_VALUE} it must give true or false, and gave an object.",
        ),
        ({"mapping": {"a": "body.n / 0"}}, "mapping_failed", f"The mapping of 'a' {NO_VALUE} divide by zero."),
        (
            {"dedupe": "body.n"},
            "dedupe_failed",
            f"The dedupe key {NO_VALUE} it must give a text, and gave a number: string(...) makes it one.",
        ),
    ],
)
async def test_an_expression_that_fails_is_a_verdict_and_no_error_to_the_sender(
    rules: Json, code: str, reason: str, shared: Penstock
) -> None:
    told = await deliver(shared, await shared.hook("quick", **rules), {"n": 1})

    event = await read(shared, f"/v1/events/{told['event_id']}")
    assert (told["status"], told["reason"], told["runs"]) == ("ignored", reason, [])
    assert (event["verdict"], event["reason_code"], event["reason"]) == ("rejected", code, reason)


async def test_what_was_turned_away_is_let_in_when_it_comes_again_after_the_rules_have_changed(
    shared: Penstock,
) -> None:
    schedule = await shared.schedule("quick", filter="body.n > 1", dedupe="body.id")
    hook = (await shared.client.post(f"/v1/schedules/{schedule['id']}/tokens")).json()["url"]
    first = await deliver(shared, hook, {"n": 1, "id": "a"})

    changed = await shared.client.patch(f"/v1/schedules/{schedule['id']}", json={"filter": "body.n > 0"})
    again = await deliver(shared, hook, {"n": 1, "id": "a"})

    assert (changed.status_code, changed.json()["filter"], changed.json()["dedupe"]) == (200, "body.n > 0", "body.id")
    assert (first["status"], again["status"]) == ("ignored", "accepted")
    explained = await read(shared, f"/v1/events/{first['event_id']}/explain")
    assert explained == {
        "event_id": first["event_id"],
        "verdict": "filtered",
        "reason_code": "filter_false",
        "reason": "The filter is false.",
        "steps": [
            {"step": "token", "finding": "it fires this schedule"},
            {"step": "size", "finding": "19 bytes were within the limit"},
            {"step": "signature", "finding": "it passed as source generic"},
            {"step": "payload", "finding": "read as json"},
            {"step": "event type", "finding": "none given"},
            {
                "step": "filter",
                "finding": "false",
                "parts": [
                    {"text": "body.n > 1", "line": 1, "column": 1, "value": False},
                    {"text": "body.n", "line": 1, "column": 1, "value": 1},
                ],
            },
            {
                "step": "dedupe",
                "finding": '"a"',
                "parts": [{"text": "body.id", "line": 1, "column": 1, "value": "a"}],
            },
            {"step": "dedupe key", "finding": "none given: every delivery counts"},
            {"step": "verdict", "finding": "filtered: The filter is false."},
        ],
        "today": {
            "verdict": "accepted",
            "reason_code": None,
            "reason": None,
            "steps": [
                {
                    "step": "filter",
                    "finding": "true",
                    "parts": [
                        {"text": "body.n > 0", "line": 1, "column": 1, "value": True},
                        {"text": "body.n", "line": 1, "column": 1, "value": 1},
                    ],
                },
                {
                    "step": "dedupe",
                    "finding": '"a"',
                    "parts": [{"text": "body.id", "line": 1, "column": 1, "value": "a"}],
                },
            ],
        },
    }
    assert (await read(shared, f"/v1/events/{again['event_id']}/explain"))["today"] is None


async def test_a_mapping_gives_the_run_its_variables_typed(shared: Penstock) -> None:
    mapping = {"target_date": "body.day", "dry_run": "size(body.flags) == 0"}
    hook = await shared.hook("parameterised_pipeline", mapping=mapping, variables={"region": "eu-west-1"})

    told = await deliver(shared, hook, {"day": "2026-11-20", "flags": []})

    run = await shared.ended(told["runs"][0]["id"])
    assert (run["state"], run["variables"]) == (
        "success",
        {"region": "eu-west-1", "target_date": "2026-11-20", "dry_run": True},
    )
    assert run["event_variables"] == {"day": "2026-11-20", "flags": []}


async def test_a_mapping_that_does_not_fit_the_params_is_rejected_with_the_pointer(shared: Penstock) -> None:
    hook = await shared.hook("parameterised_pipeline", mapping={"region": "body.region"})

    told = await deliver(shared, hook, {"region": "mars"})

    event = await read(shared, f"/v1/events/{told['event_id']}")
    assert (told["status"], event["verdict"], event["reason_code"]) == ("ignored", "rejected", "params_invalid")
    assert event["reason"].startswith("The variables are not what the pipeline takes: /variables/region: ")


async def test_deliveries_with_the_same_dedupe_key_are_one(shared: Penstock) -> None:
    hook = await shared.hook("quick", dedupe="body.order + '/' + body.state")

    first = await deliver(shared, hook, {"order": "7", "state": "paid"}, idempotency_key="one")
    again = await deliver(shared, hook, {"order": "7", "state": "paid"}, idempotency_key="two")
    other = await deliver(shared, hook, {"order": "7", "state": "sent"}, idempotency_key="one")
    differs = await deliver(shared, hook, {"order": "7", "state": "paid", "by": "me"})

    assert [told["status"] for told in (first, again, other, differs)] == [
        "accepted",
        "duplicate",
        "accepted",
        "duplicate",
    ]
    assert again["runs"][0]["id"] == first["runs"][0]["id"]
    assert differs["reason"] == "another body came before with the same key"
    assert (await read(shared, f"/v1/events/{first['event_id']}"))["dedupe_key"] == "7/paid"


async def test_a_pause_decides_before_the_rules(shared: Penstock) -> None:
    hook = await shared.hook("quick", filter="body.missing", is_paused=True, on_paused="reject")

    told = await deliver(shared, hook, {})

    assert (told["status"], told["reason"]) == ("ignored", "the schedule is paused")
    steps = by_step(await read(shared, f"/v1/events/{told['event_id']}/explain"))
    assert "filter" not in steps
    assert steps["verdict"] == "filtered: the schedule is paused"


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        (
            {"filter": "body.a ==", "mapping": {"x/y": "1 + true"}, "dedupe": "bdy"},
            [
                {"pointer": "/filter", "message": "line 1, column 10: it ends too early\nbody.a ==\n         ^"},
                {
                    "pointer": "/mapping/x~1y",
                    "message": "line 1, column 3: found no matching overload for '_+_' applied to '(int, bool)'\n"
                    "1 + true\n  ^",
                },
                {
                    "pointer": "/dedupe",
                    "message": "line 1, column 1: undeclared reference to 'bdy' (in container '')\nbdy\n^",
                },
            ],
        ),
        (
            {"filter": "1 + 1"},
            [
                {
                    "pointer": "/filter",
                    "message": "line 1, column 1: it must give true or false, and gives INT\n1 + 1\n^",
                }
            ],
        ),
    ],
)
async def test_rules_that_do_not_compile_are_not_saved(fields: Json, errors: list[Json], shared: Penstock) -> None:
    schedule = await shared.schedule("quick")

    created = await shared.client.post("/v1/schedules", json={"pipeline_id": "quick", "name": "bad"} | fields)
    patched = await shared.client.patch(f"/v1/schedules/{schedule['id']}", json=fields)

    for answer in (created, patched):
        assert problem(answer, 422, "invalid").startswith("filter: line 1, column")
        assert answer.json()["errors"] == errors
    assert (await read(shared, f"/v1/schedules/{schedule['id']}"))["filter"] is None


async def test_a_schedule_of_the_clock_has_no_rules(shared: Penstock) -> None:
    fields = {"pipeline_id": "quick", "name": "nightly", "kind": "time", "cron": "0 3 * * *", "filter": "true"}

    answer = await shared.client.post("/v1/schedules", json=fields)

    assert problem(answer, 422, "invalid") == "filter: a schedule of kind time has none."


async def test_a_dry_run_shows_the_value_of_each_part_and_hides_secrets(shared: Penstock) -> None:
    rules = {"filter": "headers['x-secret'] == 'abc' && body.n > 2", "mapping": {"s": "headers['x-secret']"}}
    hook = await shared.hook("quick", **rules)

    told = await deliver(shared, f"{hook}?dry_run=1", {"n": 3}, x_secret="abc")

    steps = {step["step"]: step for step in told["steps"]}
    assert (told["status"], told["dry_run"], told["event_id"]) == ("accepted", True, None)
    assert [(part["text"], part["value"]) for part in steps["filter"]["parts"]] == [
        ("headers['x-secret'] == 'abc' && body.n > 2", True),
        ("headers['x-secret'] == 'abc'", True),
        ("headers['x-secret']", "***"),
        ("body.n > 2", True),
        ("body.n", 3),
    ]
    assert steps["mapping of s"] == {
        "step": "mapping of s",
        "finding": '"***"',
        "parts": [{"text": "headers['x-secret']", "line": 1, "column": 1, "value": "***"}],
    }


async def test_what_reads_a_secret_is_not_evaluated_again_from_what_is_stored(shared: Penstock) -> None:
    schedule = await shared.schedule("quick", filter="headers['x-secret'] == 'abc'")
    hook = (await shared.client.post(f"/v1/schedules/{schedule['id']}/tokens")).json()["url"]
    told = await deliver(shared, hook, {"n": 3}, x_secret="abc")
    await shared.client.patch(f"/v1/schedules/{schedule['id']}", json={"filter": "headers['x-secret'] == 'def'"})

    explained = await read(shared, f"/v1/events/{told['event_id']}/explain")

    why_not = "it is not evaluated again, for it reads a secret header or parameter, and those are not stored"
    assert (told["status"], by_step(explained)["filter"]) == ("accepted", why_not)
    assert explained["today"] == {
        "verdict": None,
        "reason_code": None,
        "reason": "it reads what is not stored",
        "steps": [{"step": "filter", "finding": why_not}],
    }


@pytest.mark.parametrize("padding", [0, INLINE_LIMIT])
async def test_a_duplicate_and_its_first_are_explained_alike(padding: int, shared: Penstock) -> None:
    hook = await shared.hook("quick", dedupe="body.id")
    first = await deliver(shared, hook, {"id": "a", "padding": "x" * padding})
    await deliver(shared, hook, {"id": "a", "padding": "x" * padding})
    found = await read(shared, f"/v1/events?schedule_id={hook.split('/')[-2]}&verdict=duplicate")

    steps = by_step(await read(shared, f"/v1/events/{found['items'][0]['id']}/explain"))

    assert (steps["dedupe"], steps["dedupe key"]) == ('"a"', "a")
    assert (steps["first"], steps["verdict"]) == (f"event {first['event_id']}", "duplicate: it came before")
    assert by_step(await read(shared, f"/v1/events/{first['event_id']}/explain"))["dedupe"] == steps["dedupe"]


async def test_a_body_that_no_expression_can_read_still_gets_its_answer(shared: Penstock) -> None:
    hook = await shared.hook("quick", filter="body.a == 1")

    for body, content_type in [(b"\xff\xfe", "application/octet-stream"), (b"", JSON), (b"[" * 900 + b"]" * 900, JSON)]:
        answer = await shared.deliver(hook, body, content_type=content_type)
        assert (answer.status_code, answer.json()["status"]) == (200, "ignored"), body


async def test_an_unknown_event_cannot_be_explained(shared: Penstock) -> None:
    answer = await shared.client.get("/v1/events/0198f0a0-0000-7000-8000-000000000001/explain")

    assert problem(answer, 404, "not_found") == "There is no event 0198f0a0-0000-7000-8000-000000000001."
