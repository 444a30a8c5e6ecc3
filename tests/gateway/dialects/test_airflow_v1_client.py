"""The official, unmodified client of Airflow 2 drives a whole Penstock, out of an environment of its own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded import EmbeddedServers
from tests.foreign_clients import drive
from tests.house.code import ROOT
from tests.system import KEY, Penstock

CALLS = Path(__file__).with_name("airflow_v1_client_calls.py")
PIPELINES = ROOT / "tests" / "fixtures" / "dialects" / "airflow_v1" / "pipelines"
Json = dict[str, Any]


def failed(status: int, detail: str | None, *, title: str) -> Json:
    return {"status": status, "title": title, "detail": detail}


EXPECTED: Json = {
    "version": "2.10.5",
    "health": "healthy",
    "dags": ["mapped", "noop", "patient"],
    "dags of a pattern": ["pyop", "noop"],
    "dags with a tag": 0,
    "dag": [4, "0 0 * * *"],
    "dag without a timetable": None,
    "unknown dag": failed(404, "The DAG with dag_id: nope was not found", title="DAG not found"),
    "details": ["n", "req"],
    "tasks": ["again", "hello"],
    "task": ["again"],
    "stats": [4, 4],
    "trigger": ["client+first:1", "queued"],
    "run that ended": ["client+first:1", "success"],
    "its conf and note": [{"a": "b"}, "hi"],
    "same id again": failed(
        409, "DAGRun with DAG ID: 'pyop' and DAGRun ID: 'client+first:1' already exists", title="Conflict"
    ),
    "with nothing": "manual__",
    "with a date": "manual__2024-06-15T10:00:00+00:00",
    "same date again": failed(
        409,
        "DAGRun with DAG ID: 'pyop' and DAGRun logical date: '2024-06-15 10:00:00+00:00' already exists",
        title="Conflict",
    ),
    "its date": "2024-06-15T10:00:00+00:00",
    "unknown to trigger": failed(404, "DAG with dag_id: 'nope' not found", title="DAG not found"),
    "params missing": failed(400, "Invalid input for param req: No value passed", title="Bad Request"),
    "params wrong": failed(
        400,
        "Invalid input for param n: -1 is less than the minimum of 0\n\n"
        "Failed validating 'minimum' in schema:\n    {'type': 'integer', 'default': 1, 'minimum': 0}\n\n"
        "On instance:\n    -1",
        title="Bad Request",
    ),
    "params right": ["client-strict", "queued"],
    "odd id": failed(
        400,
        "The run_id provided 'a b&c' does not match regex pattern '^[A-Za-z0-9_.~:+-]+$' or "
        r"'^(?:manual|scheduled|dataset_triggered)__(?:\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\+00:00)$'",
        title="Bad Request",
    ),
    "list": 1,
    "list of all": True,
    "list of a date": 1,
    "list of an unknown dag": 0,
    "list in an unknown order": failed(
        400, "Ordering with 'conf' is disallowed or the attribute does not exist on the model", title="Bad Request"
    ),
    "batch": ["pyop"],
    "task instances": [["hello", "success", 1], ["again", "success", 2]],
    "batch of them": ["again"],
    "task instance": -1,
    "tries": ["failed", "success"],
    "unknown task instance": failed(404, None, title="Task instance not found"),
    "log": ' [hello] hello {"who":"world"}\\n\')]',
    "log in full": True,
    "log of no try": "[('penstock', 'Error fetching the logs. Try number 9 is invalid.')]",
    "log of nothing": failed(404, None, title="TaskInstance not found"),
    "mapped": 3,
    "one of them": "success",
    "run that failed": ["client-patient", "failed"],
    "note": "look",
    "would be cleared": 2,
    "failed are cleared": ["wait"],
    "run that went on": ["client-patient", "success"],
    "cleared": "queued",
    "run that was cleared": ["client-patient", "success"],
    "its note": "look",
    "failed": ["client-patient", "failed"],
    "success": ["client-patient", "success"],
    "queued": ["client-patient", "queued"],
    "listed once": 1,
    "deleted": None,
    "run that is deleted": failed(
        404, "DAGRun with DAG ID: 'patient' and DagRun ID: 'client-patient' not found", title="DAGRun not found"
    ),
    "paused": True,
    "run of a paused dag": ["client-paused", "queued"],
    "unpaused": [False],
    "run that was let go": ["client-paused", "success"],
    "with a token": "noop",
    "with a wrong password": failed(401, None, title="Unauthorized"),
    "with nothing at all": failed(401, None, title="Unauthorized"),
}


@pytest.fixture
async def driven(servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    """A Penstock with the DAGs that the client drives, one of which has a timetable."""
    async with Penstock(
        database_url=database_url, redis_url=servers.redis_url, directory=tmp_path, pipelines=PIPELINES
    ) as penstock:
        await penstock.start()
        await penstock.schedule("noop", kind="time", cron="0 0 * * *")
        yield penstock


async def test_the_official_client_works_as_with_airflow(driven: Penstock, tmp_path: Path) -> None:
    results = await drive("apache-airflow-client", "2.10.0", CALLS, driven.url, KEY, tmp_path)

    assert results == EXPECTED
