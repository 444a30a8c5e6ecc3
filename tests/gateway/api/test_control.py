"""What people do to runs: trigger, cancel, resume, rerun and mark them."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.faults import Connection, diary_of, trigger
from tests.problems import problem
from tests.system import Json, Penstock
from tests.waiting import eventually

UNKNOWN = "0198f0a0-0000-7000-8000-000000000001"


class Broken:
    """A run of the pipeline `mending`: it fails until it is mended."""

    def __init__(self, directory: Path) -> None:
        self.diary = directory / "diary"
        self._mended = directory / "mended"
        self.variables = {"diary": str(self.diary), "mended": str(self._mended)}

    def mend(self) -> None:
        self._mended.touch()

    @property
    def executed(self) -> list[str]:
        """Everything that was noted, without the number of the attempt."""
        return [line.rpartition(" ")[0] for line in self.diary.read_text().splitlines()]


@pytest.fixture
def broken(tmp_path: Path) -> Broken:
    return Broken(tmp_path)


async def failed_run(shared: Penstock, broken: Broken, **fields: Any) -> Json:
    answer = await shared.client.post("/v1/pipelines/mending/runs", json={"variables": broken.variables} | fields)
    run = await shared.ended(answer.json()["id"])
    assert run["state"] == "failed"
    return run


async def do(shared: Penstock, run_id: str, verb: str, status: int = 202, **body: Any) -> Json:
    answer = await shared.client.post(f"/v1/runs/{run_id}/{verb}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def states(run: Json) -> dict[str, str]:
    return {block["block_id"]: block["state"] for block in run["block_runs"] if block["map_index"] is None}


def without(run: Json, *names: str) -> Json:
    return {name: value for name, value in run.items() if name not in names}


async def test_a_failed_run_is_resumed_as_a_new_run_that_skips_what_succeeded(shared: Penstock, broken: Broken) -> None:
    old = await failed_run(
        shared, broken, logical_date="2026-01-31T00:00:00Z", run_key=str(uuid.uuid4()), note="nightly"
    )
    broken.mend()

    answer = await shared.client.post(f"/v1/runs/{old['number']}/resume", json={"note": "mended"})

    new = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"{shared.url}/v1/runs/{new['id']}")
    assert states(new) == {"prepare": "success", "shaky": "pending", "finish": "pending"}
    assert without(new, "id", "number", "created_at", "block_runs") == {
        "pipeline_id": "mending",
        "schedule_id": None,
        "event_id": None,
        "state": "queued",
        "variables": old["variables"],
        "event_variables": None,
        "logical_date": "2026-01-31T00:00:00Z",
        "run_key": None,
        "note": "mended",
        "origin": "resume",
        "parent_id": old["id"],
        "resumed_from": old["id"],
        "backfill_id": None,
        "queue": "default",
        "passed_sla": False,
        "replay_id": None,
        "callback_url": None,
        "attempt": 0,
        "started_at": None,
        "finished_at": None,
        "error": None,
    }
    ended = await shared.ended(new["id"])
    assert (ended["state"], set(states(ended).values())) == ("success", {"success"})
    assert ended["block_runs"][0] == old["block_runs"][0]  # as it was executed then
    assert broken.executed == ["prepare", "shaky", "shaky", "finish"]
    assert await shared.run(old["id"]) == old
    history = [event async for event in shared.events(f"/v1/runs/{new['id']}/stream")]
    assert [int(event["id"]) for event in history[:-1]] == list(range(1, len(history)))
    told = [(event["data"].get("block_id"), event["data"]["state"]) for event in history[:3]]
    assert told == [(None, "queued"), ("prepare", "success"), (None, "running")]


async def test_a_resumed_run_that_fails_can_be_resumed_and_knows_the_event(shared: Penstock, broken: Broken) -> None:
    hook = await shared.hook("mending", variables=broken.variables)
    first = await shared.ended(await shared.delivered_run(hook, b'{"ref": "order-7"}', idempotency_key="once"))
    second = await shared.ended((await do(shared, first["id"], "resume"))["id"])
    assert (first["state"], second["state"]) == ("failed", "failed")
    broken.mend()

    third = await shared.ended((await do(shared, second["id"], "resume"))["id"])

    assert (third["state"], third["resumed_from"], third["parent_id"]) == ("success", second["id"], second["id"])
    assert third["event_variables"] == {"ref": "order-7"}
    assert {run["event_id"] for run in (first, second, third)} == {first["event_id"]}
    assert {run["schedule_id"] for run in (first, second, third)} == {first["schedule_id"]}
    assert broken.executed == ["prepare", "shaky", "shaky", "shaky", "finish"]
    log = (await shared.client.get(f"/v1/runs/{third['id']}/logs")).json()["items"]
    assert log[-1]["fields"] == {"rows": 2, "ref": "order-7"}
    again = await shared.deliver(hook, b'{"ref": "order-7"}', idempotency_key="once")
    assert [run["id"] for run in again.json()["runs"]] == [first["id"]]  # a duplicate means the first run


async def test_a_resumed_run_repeats_items_that_failed_what_builds_on_them_and_its_last_callbacks(
    shared: Penstock, broken: Broken
) -> None:
    answer = await shared.client.post(
        "/v1/pipelines/mending_items/runs", json={"variables": broken.variables | {"rows": 3}}
    )
    old = await shared.ended(answer.json()["id"])
    assert (old["state"], states(old)["each"], states(old)["report"]) == ("failed", "failed", "success")
    before = broken.executed
    broken.mend()

    new = await shared.ended((await do(shared, old["id"], "resume"))["id"])

    assert (new["state"], set(states(new).values())) == ("success", {"success"})
    first = ["items", "items_told", "each[0]", "each[1]", "each[2]", "report None", "run_failed"]
    assert sorted(before) == sorted(first)
    assert broken.executed[len(before) :] == ["each[1]", "report [0, 10, 20]", "run_succeeded"]


async def test_only_what_failed_or_was_cancelled_can_be_resumed_and_not_twice_at_once(
    shared: Penstock, broken: Broken, tmp_path: Path
) -> None:
    done = await shared.ended(await trigger(shared, "quick"))
    refused = await shared.client.post(f"/v1/runs/{done['id']}/resume")
    rule = "only a failed or cancelled run can be resumed"
    assert problem(refused, 409, "conflict") == f"Run {done['id']} is success; {rule}."
    problem(await shared.client.post(f"/v1/runs/{UNKNOWN}/resume"), 404, "not_found")

    failed = await failed_run(shared, broken)
    await shared.client.patch("/v1/pipelines/mending", json={"is_paused": True})
    try:
        answers = await asyncio.gather(
            *(shared.client.post(f"/v1/runs/{failed['id']}/resume") for _ in range(5)),
        )
        (first,) = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        for answer in answers:
            if answer.status_code != 202:
                assert first in problem(answer, 409, "conflict")
                assert answer.json()["run_id"] == first
        waiting = await shared.client.post(f"/v1/runs/{first}/resume")
        assert "is queued" in problem(waiting, 409, "conflict")
    finally:
        await shared.client.patch("/v1/pipelines/mending", json={"is_paused": False})
    assert (await shared.ended(first))["state"] == "failed"
    assert (await shared.ended((await do(shared, failed["id"], "resume"))["id"]))["state"] == "failed"


async def test_an_ended_run_is_run_again_whole_with_the_same_or_edited_variables(
    shared: Penstock, broken: Broken
) -> None:
    broken.mend()
    hook = await shared.hook("mending", variables=broken.variables)
    old = await shared.ended(await shared.delivered_run(hook, b'{"ref": "a"}'))

    same = await do(shared, old["id"], "rerun")
    await shared.ended(same["id"])  # two at once would write into each other's lines of the diary
    edited = await do(shared, old["id"], "rerun", variables=broken.variables | {"rows": 5}, note="more rows")

    for run in (same, edited):
        ended = await shared.ended(run["id"])
        assert (ended["state"], ended["origin"], ended["parent_id"]) == ("success", "rerun", old["id"])
        assert (ended["resumed_from"], ended["event_id"]) == (None, old["event_id"])
    assert same["variables"] == old["variables"]
    assert (edited["variables"], edited["note"]) == (broken.variables | {"rows": 5}, "more rows")
    assert sorted(broken.executed) == sorted(["prepare", "shaky", "finish"] * 3)
    refused = await shared.client.post(f"/v1/runs/{old['id']}/rerun", json={"variables": {"diary": 1, "mended": ""}})
    problem(refused, 422, "invalid")
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/variables/diary"]


async def test_what_has_not_ended_cannot_be_run_again(shared: Penstock) -> None:
    run_id = await trigger(shared, "steps", seconds=20)
    assert "can be run again" in problem(await shared.client.post(f"/v1/runs/{run_id}/rerun"), 409, "conflict")
    await do(shared, run_id, "cancel")
    assert (await shared.ended(run_id))["state"] == "cancelled"


async def test_a_cancelled_run_starts_no_block_stops_those_that_execute_and_can_be_resumed(
    shared: Penstock, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    run_id = await trigger(shared, "steps", seconds=0.8, diary=str(diary))
    await eventually(lambda: len(diary_of(diary)) == 2, timeout=15)

    await do(shared, run_id, "cancel")
    cancelled = await shared.ended(run_id)
    assert cancelled["state"] == "cancelled"
    assert states(cancelled) == {
        "one": "success",
        "two": "cancelled",
        "three": "cancelled",
        "four": "cancelled",
        "five": "cancelled",
    }
    resumed = await shared.ended((await do(shared, run_id, "resume"))["id"])

    assert (resumed["state"], resumed["resumed_from"]) == ("success", run_id)
    assert [step for step, _ in diary_of(diary)] == [1, 2, 2, 3, 4, 5]


async def test_a_run_that_waits_or_has_ended_is_marked_by_hand(shared: Penstock, broken: Broken) -> None:
    failed = await failed_run(shared, broken, note="nightly")

    marked = await do(shared, failed["id"], "mark", 200, state="success")
    assert marked == failed | {"state": "success", "error": None}  # even when it ended stays
    again = await shared.client.post(f"/v1/runs/{failed['id']}/mark", json={"state": "success"})
    assert problem(again, 409, "conflict") == f"Run {failed['id']} is success already."
    marked = await do(shared, failed["id"], "mark", 200, state="failed", note="the figures are wrong")
    assert marked["error"] == {"type": "Marked", "message": "marked failed by preset: the figures are wrong"}
    assert (marked["state"], marked["note"], marked["finished_at"]) == (
        "failed",
        "the figures are wrong",
        failed["finished_at"],
    )
    for body in ({"state": "cancelled"}, {}, {"state": "success", "epoch": 1}):
        problem(await shared.client.post(f"/v1/runs/{failed['id']}/mark", json=body), 422, "invalid")

    await shared.client.patch("/v1/pipelines/mending", json={"is_paused": True})
    try:
        waiting = (await shared.client.post("/v1/pipelines/mending/runs", json={"variables": broken.variables})).json()
        marked = await do(shared, waiting["id"], "mark", 200, state="success")
    finally:
        await shared.client.patch("/v1/pipelines/mending", json={"is_paused": False})
    assert marked == waiting | {"state": "success", "finished_at": marked["finished_at"]}
    assert marked["finished_at"]


async def test_a_running_run_that_is_marked_is_left_by_its_runner(
    shared: Penstock, shared_connection: Connection, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    run_id = await trigger(shared, "steps", seconds=0.6, diary=str(diary))
    await eventually(lambda: len(diary_of(diary)) == 2, timeout=15)

    marked = await do(shared, run_id, "mark", 200, state="success", note="done by hand")

    assert (marked["state"], marked["note"], marked["error"]) == ("success", "done by hand", None)
    assert states(marked) == {
        "one": "success",
        "two": "cancelled",
        "three": "pending",
        "four": "pending",
        "five": "pending",
    }
    history = [event async for event in shared.events(f"/v1/runs/{run_id}/stream")]
    assert [(event["event"], event["data"].get("state")) for event in history[-3:-1]] == [
        ("block", "cancelled"),
        ("run", "success"),
    ]
    after = await shared.ended(await trigger(shared, "steps", seconds=0.3))  # longer than step two had still to go
    assert after["state"] == "success"
    assert [step for step, _ in diary_of(diary)] == [1, 2]
    assert await shared.run(run_id) == marked
    assert await shared_connection.fetchval("SELECT lease_owner FROM runs WHERE id = $1", uuid.UUID(run_id)) is None


async def test_fifty_triggers_at_once_make_fifty_runs(shared: Penstock) -> None:
    answers = await asyncio.gather(*(shared.client.post("/v1/pipelines/quick/runs") for _ in range(50)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 50
    assert len({answer.json()["number"] for answer in answers}) == 50
    for answer in answers:
        assert (await shared.ended(answer.json()["id"]))["state"] == "success"


async def test_fifty_triggers_at_once_with_one_key_make_one_run(shared: Penstock) -> None:
    body = {"run_key": str(uuid.uuid4())}

    answers = await asyncio.gather(*(shared.client.post("/v1/pipelines/quick/runs", json=body) for _ in range(50)))

    (made,) = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    assert {answer.json()["run_id"] for answer in answers if answer.status_code == 409} == {made}


async def test_a_run_is_triggered_by_another_and_may_be_called_back(shared: Penstock) -> None:
    parent = await trigger(shared, "quick")
    body = {"triggered_by": parent, "callback_url": "https://example.invalid/done?x=1"}

    child = (await shared.client.post("/v1/pipelines/quick/runs", json=body)).json()

    assert (child["origin"], child["parent_id"], child["resumed_from"]) == ("run", parent, None)
    assert child["callback_url"] == "https://example.invalid/done?x=***"
    wrong = {"/triggered_by": {"triggered_by": UNKNOWN}, "/callback_url": {"callback_url": "ftp://example.com"}}
    for pointer, body in wrong.items():
        refused = await shared.client.post("/v1/pipelines/quick/runs", json=body)
        problem(refused, 422, "invalid")
        assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]


async def test_a_payload_above_the_limit_is_told_to_pass_a_reference(shared: Penstock) -> None:
    body = {"variables": {"large": "x" * (1 << 20)}}

    refused = await shared.client.post("/v1/pipelines/quick/runs", json=body)

    assert "send a reference to it instead (a path, a key or a URL)" in problem(refused, 413, "too_large")
