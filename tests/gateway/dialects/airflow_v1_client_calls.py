"""Drives a server with the official client of Airflow 2; runs in an environment that has nothing else.

`python airflow_v1_client_calls.py HOST KEY DIRECTORY` prints what each call gave as one JSON object. Calls that fail
give their status and what they say. Nothing here knows Penstock.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import airflow_client.client as airflow
from airflow_client.client.api.dag_api import DAGApi
from airflow_client.client.api.dag_run_api import DAGRunApi
from airflow_client.client.api.dag_stats_api import DagStatsApi
from airflow_client.client.api.monitoring_api import MonitoringApi
from airflow_client.client.api.task_instance_api import TaskInstanceApi
from airflow_client.client.model.clear_dag_run import ClearDagRun
from airflow_client.client.model.clear_task_instances import ClearTaskInstances
from airflow_client.client.model.dag import DAG
from airflow_client.client.model.dag_run import DAGRun
from airflow_client.client.model.list_dag_runs_form import ListDagRunsForm
from airflow_client.client.model.list_task_instance_form import ListTaskInstanceForm
from airflow_client.client.model.set_dag_run_note import SetDagRunNote
from airflow_client.client.model.update_dag_run_state import UpdateDagRunState

HOST, KEY, DIRECTORY = sys.argv[1:]
FIRST, PATIENT, MAPPED = "client+first:1", "client-patient", "client-mapped"
results: dict[str, Any] = {}


def connect(**credentials: str) -> airflow.ApiClient:
    return airflow.ApiClient(airflow.Configuration(host=f"{HOST}/api/v1", **credentials))


client = connect(username="admin", password=KEY)
dags, runs, tasks = DAGApi(client), DAGRunApi(client), TaskInstanceApi(client)


def call(name: str, made: Callable[[], Any]) -> Any:
    """Make a call and remember what it gave."""
    try:
        found = made()
    except airflow.ApiException as error:
        said = json.loads(error.body)
        found = {"status": error.status, "title": said["title"], "detail": said["detail"]}
    results[name] = found
    return found


def trigger(dag_id: str, **body: Any) -> Any:
    return runs.post_dag_run(dag_id, DAGRun(**body))


def ended(dag_id: str, run_id: str) -> Any:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        run = runs.get_dag_run(dag_id, run_id)
        if run.state.value in ("success", "failed"):
            return run
        time.sleep(0.05)
    raise AssertionError(f"{dag_id} {run_id} has not ended")


def state_of(run: Any) -> list[Any]:
    return [run.dag_run_id, run.state.value]


def look_around() -> None:
    call("version", lambda: MonitoringApi(client).get_version().version.partition("+")[0])
    call("health", lambda: MonitoringApi(client).get_health().scheduler.status.value)
    call("dags", lambda: [dag.dag_id for dag in dags.get_dags(limit=3).dags])
    call(
        "dags of a pattern",
        lambda: [dag.dag_id for dag in dags.get_dags(dag_id_pattern="O%P", order_by="-dag_id", paused=False).dags],
    )
    call("dags with a tag", lambda: dags.get_dags(tags=["etl"]).total_entries)
    call("dag", lambda: [dags.get_dag("noop").max_active_runs, dags.get_dag("noop").schedule_interval.value])
    call("dag without a timetable", lambda: dags.get_dag("pyop").schedule_interval)
    call("unknown dag", lambda: dags.get_dag("nope"))
    call("details", lambda: sorted(dags.get_dag_details("strict").params))
    call("tasks", lambda: [task.task_id for task in dags.get_tasks("pyop").tasks])
    call("task", lambda: dags.get_task("pyop", "hello").downstream_task_ids)
    call("stats", lambda: [len(dag.stats) for dag in DagStatsApi(client).get_dag_stats("noop,pyop").dags])


def trigger_runs() -> None:
    call("trigger", lambda: state_of(trigger("pyop", dag_run_id=FIRST, conf={"a": "b"}, note="hi")))
    call("run that ended", lambda: state_of(ended("pyop", FIRST)))
    call("its conf and note", lambda: [runs.get_dag_run("pyop", FIRST).conf, runs.get_dag_run("pyop", FIRST).note])
    call("same id again", lambda: trigger("pyop", dag_run_id=FIRST))
    call("with nothing", lambda: trigger("pyop").dag_run_id[:8])
    date = datetime(2024, 6, 15, 10, tzinfo=UTC)
    call("with a date", lambda: trigger("pyop", logical_date=date).dag_run_id)
    call("same date again", lambda: trigger("pyop", execution_date=date, dag_run_id="other"))
    call("its date", lambda: runs.get_dag_run("pyop", f"manual__{date.isoformat()}").execution_date.isoformat())
    call("unknown to trigger", lambda: trigger("nope"))
    call("params missing", lambda: trigger("strict"))
    call("params wrong", lambda: trigger("strict", conf={"req": "x", "n": -1}))
    call("params right", lambda: state_of(trigger("strict", conf={"req": "x"}, dag_run_id="client-strict")))
    call("odd id", lambda: trigger("pyop", dag_run_id="a b&c"))


def read_runs() -> None:
    call("list", lambda: len(runs.get_dag_runs("pyop", order_by="-id", limit=1).dag_runs))
    call("list of all", lambda: runs.get_dag_runs("~", state=["success"]).total_entries > 0)
    date = datetime(2024, 6, 15, 10, tzinfo=UTC)
    day = {"execution_date_gte": date, "execution_date_lte": date}
    call("list of a date", lambda: runs.get_dag_runs("~", **day).total_entries)
    call("list of an unknown dag", lambda: runs.get_dag_runs("nope").total_entries)
    call("list in an unknown order", lambda: runs.get_dag_runs("pyop", order_by="conf"))
    batch = ListDagRunsForm(dag_ids=["pyop"], page_limit=1, states=["success"], execution_date_gte=date)
    call("batch", lambda: [run.dag_id for run in runs.get_dag_runs_batch(batch).dag_runs])
    call(
        "task instances",
        lambda: [
            [t.task_id, t.state.value, t.try_number] for t in tasks.get_task_instances("pyop", FIRST).task_instances
        ],
    )
    wanted = ListTaskInstanceForm(dag_ids=["pyop"], dag_run_ids=[FIRST], task_ids=["again"])
    call("batch of them", lambda: [t.task_id for t in tasks.get_task_instances_batch(wanted).task_instances])
    call("task instance", lambda: tasks.get_task_instance("pyop", FIRST, "hello").map_index)
    call("tries", lambda: [t.state.value for t in tasks.get_task_instance_tries("pyop", FIRST, "again").task_instances])
    call("unknown task instance", lambda: tasks.get_task_instance("pyop", FIRST, "nope"))
    call("log", lambda: tasks.get_log("pyop", FIRST, "hello", 1).content.partition("[info]")[2])
    call("log in full", lambda: len(tasks.get_log("pyop", FIRST, "again", 2, full_content=True).continuation_token) > 0)
    call("log of no try", lambda: tasks.get_log("pyop", FIRST, "hello", 9).content)
    call("log of nothing", lambda: tasks.get_log("pyop", FIRST, "nope", 1))
    trigger("mapped", dag_run_id=MAPPED)
    ended("mapped", MAPPED)
    call("mapped", lambda: tasks.get_mapped_task_instances("mapped", MAPPED, "square").total_entries)
    call("one of them", lambda: tasks.get_mapped_task_instance("mapped", MAPPED, "square", 2).state.value)


def change_runs() -> None:
    broken = Path(DIRECTORY) / "broken"
    broken.touch()
    trigger("patient", dag_run_id=PATIENT, conf={"broken": str(broken)})
    call("run that failed", lambda: state_of(ended("patient", PATIENT)))
    call("note", lambda: runs.set_dag_run_note("patient", PATIENT, SetDagRunNote(note="look")).note)
    call("would be cleared", lambda: len(runs.clear_dag_run("patient", PATIENT, ClearDagRun())["task_instances"]))
    failed = ClearTaskInstances(dag_run_id=PATIENT, dry_run=False, reset_dag_runs=True)
    broken.unlink()
    call(
        "failed are cleared",
        lambda: [t.task_id for t in dags.post_clear_task_instances("patient", failed).task_instances],
    )
    call("run that went on", lambda: state_of(ended("patient", PATIENT)))
    call("cleared", lambda: runs.clear_dag_run("patient", PATIENT, ClearDagRun(dry_run=False))["state"])
    call("run that was cleared", lambda: state_of(ended("patient", PATIENT)))
    call("its note", lambda: runs.get_dag_run("patient", PATIENT).note)
    for state in ("failed", "success", "queued"):
        call(
            state,
            lambda state=state: state_of(runs.update_dag_run_state("patient", PATIENT, UpdateDagRunState(state=state))),
        )
    ended("patient", PATIENT)
    call("listed once", lambda: [run.dag_run_id for run in runs.get_dag_runs("patient").dag_runs].count(PATIENT))
    call("deleted", lambda: runs.delete_dag_run("patient", PATIENT))
    call("run that is deleted", lambda: runs.get_dag_run("patient", PATIENT))


def pause() -> None:
    call("paused", lambda: dags.patch_dag("noop", DAG(is_paused=True), update_mask=["is_paused"]).is_paused)
    call("run of a paused dag", lambda: state_of(trigger("noop", dag_run_id="client-paused")))
    call("unpaused", lambda: [dag.is_paused for dag in dags.patch_dags("noop", DAG(is_paused=False)).dags])
    call("run that was let go", lambda: state_of(ended("noop", "client-paused")))


def be_somebody_else() -> None:
    bearer = airflow.ApiClient(airflow.Configuration(host=f"{HOST}/api/v1"), "Authorization", f"Bearer {KEY}")
    call("with a token", lambda: DAGApi(bearer).get_dag("noop").dag_id)
    call("with a wrong password", lambda: DAGApi(connect(username="admin", password="wrong")).get_dags())
    call("with nothing at all", lambda: DAGApi(connect()).get_dags())


for part in (look_around, trigger_runs, read_runs, change_runs, pause, be_somebody_else):
    part()
sys.stdout.write(json.dumps(results))
