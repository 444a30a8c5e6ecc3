"""The official, unmodified clients of Airflow 3 drive a whole Penstock, each out of an environment of its own."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded import EmbeddedServers
from tests.foreign_clients import drive
from tests.house.code import ROOT
from tests.system import KEY, Penstock

VERSIONS = ["3.0.2", "3.3.2"]  # the first that is in wide use, and the newest; between them most answers changed
CALLS = Path(__file__).with_name("airflow_client_calls.py")
PIPELINES = ROOT / "tests" / "fixtures" / "dialects" / "airflow_v2" / "pipelines"
Json = dict[str, Any]


def failed(status: int, detail: Any) -> Json:
    return {"status": status, "detail": detail}


EXPECTED: Json = {
    "health": "healthy",
    "dags": ["mapped", "noop", "patient"],
    "dags of a pattern": ["pyop", "noop"],
    "dags that are paused": 0,
    "dag": 4,
    "unknown dag": failed(404, "The Dag with ID: `nope` was not found"),
    "details": ["n", "req"],
    "tasks": ["again", "hello"],
    "task": ["again"],
    "stats": 4,
    "trigger": ["CLIENT+first:1", "queued"],
    "run that ended": ["CLIENT+first:1", "success"],
    "its conf and note": [{"a": 1}, "hi"],
    "same id again": failed(
        409, {"reason": "Unique constraint violation", "statement": "hidden", "orig_error": "hidden"}
    ),
    "without an id": "manual__",
    "unknown to trigger": failed(404, "Dag with dag_id: 'nope' not found"),
    "params missing": failed(400, "Invalid input for param req: No value passed"),
    "params wrong": failed(
        400,
        "Invalid input for param n: -1 is less than the minimum of 0\n\n"
        "Failed validating 'minimum' in schema:\n    {'type': 'integer', 'default': 1, 'minimum': 0}\n\n"
        "On instance:\n    -1",
    ),
    "params right": ["CLIENT-strict", "queued"],
    "odd id": failed(
        400,
        "The run_id provided 'a b&c' does not match regex pattern '^[A-Za-z0-9_.~:+-]+$' or "
        r"'^(?:manual|scheduled|asset_triggered)__(?:\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\+00:00)$'",
    ),
    "list": 1,
    "list of all": True,
    "list of an unknown dag": failed(404, "The Dag with dag_id: `nope` was not found"),
    "list of a wrong state": failed(422, "Invalid value for state. Valid values are queued, running, success, failed"),
    "batch": "pyop",
    "task instances": [["hello", "success", 1], ["again", "success", 2]],
    "task instance": -1,
    "tries": ["failed", "success"],
    "unknown task instance": failed(
        404,
        "The Task Instance with dag_id: `pyop`, run_id: `CLIENT+first:1` and task_id: `nope` was not found",
    ),
    "log": ["hello"],
    "log in full": None,
    "log of no try": failed(404, "TaskInstance not found"),
    "mapped": 3,
    "one of them": "success",
    "run that failed": ["CLIENT-patient", "failed"],
    "note": "look",
    "marked": ["CLIENT-patient", "success"],
    "marked again": ["CLIENT-patient", "failed"],
    "cleared": ["CLIENT-patient", "queued"],
    "run that was cleared": ["CLIENT-patient", "success"],
    "its note": "look",
    "nothing to clear": 0,
    "queued": ["CLIENT-patient", "queued"],
    "run that was queued again": ["CLIENT-patient", "success"],
    "listed once": 1,
    "deleted": None,
    "run that is deleted": failed(404, "The DagRun with dag_id: `patient` and run_id: `CLIENT-patient` was not found"),
    "paused": True,
    "run of a paused dag": ["CLIENT-paused", "queued"],
    "backfill dry": 3,
    "backfill twice": failed(409, "There is already a running backfill for dag noop"),
    "backfills": True,
    "backfill read": "completed",
    "backfill paused": True,
    "backfill unpaused": False,
    "backfill cancelled": True,
    "backfill that is over": failed(409, "Backfill is already completed."),
    "unpaused": False,
    "run that was let go": ["CLIENT-paused", "success"],
    "waited": "success",
    "with a wrong token": failed(403, "Invalid JWT token"),
}


@pytest.fixture
async def driven(servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    """A Penstock with the DAGs that the clients drive, one of which has a timetable."""
    async with Penstock(
        database_url=database_url, redis_url=servers.redis_url, directory=tmp_path, pipelines=PIPELINES
    ) as penstock:
        await penstock.start()
        await penstock.schedule("noop", kind="time", cron="0 0 * * *")
        yield penstock


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_official_client_works_as_with_airflow(version: str, driven: Penstock, tmp_path: Path) -> None:
    results = await drive("apache-airflow-client", version, CALLS, driven.url, KEY, tmp_path)

    assert results.pop("version") == "3.3.2"
    assert results.pop("backfill") == 1
    assert "already" in results["same id again"]["detail"].pop("message")
    assert json.loads(json.dumps(results).replace(version, "CLIENT")) == EXPECTED
