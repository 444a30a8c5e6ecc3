"""Drives a server with the official client of Airflow 3; runs in an environment that has nothing else.

`python airflow_client_calls.py HOST KEY DIRECTORY` prints what each call gave as one JSON object. Calls that fail give
their exception: the test beside this file knows what to expect. Nothing here knows Penstock.
"""

import json
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import airflow_client.client as airflow
from airflow_client.client.exceptions import ApiException
from airflow_client.client.models.backfill_post_body import BackfillPostBody
from airflow_client.client.models.dag_patch_body import DAGPatchBody
from airflow_client.client.models.dag_run_clear_body import DAGRunClearBody
from airflow_client.client.models.dag_run_patch_body import DAGRunPatchBody
from airflow_client.client.models.dag_runs_batch_body import DAGRunsBatchBody
from airflow_client.client.models.trigger_dag_run_post_body import TriggerDAGRunPostBody

HOST, KEY, DIRECTORY = sys.argv[1:]
PREFIX = airflow.__version__
NEWEST_FIRST: Any = "-id" if PREFIX.startswith("3.0.") else ["-id"]  # from 3.1 on there may be several
LAST_NAME_FIRST: Any = "-dag_id" if PREFIX.startswith("3.0.") else ["-dag_id"]
results: dict[str, Any] = {}


def token() -> str:
    """Fetch a token as users do: the endpoint is not in the client."""
    body = json.dumps({"username": "admin", "password": KEY}).encode()
    request = urllib.request.Request(f"{HOST}/auth/token", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["access_token"])


def connect(access_token: str) -> airflow.ApiClient:
    return airflow.ApiClient(airflow.Configuration(host=HOST, access_token=access_token))


client = connect(token())
dags, runs, tasks = airflow.DAGApi(client), airflow.DagRunApi(client), airflow.TaskInstanceApi(client)
backfills = airflow.BackfillApi(client)


def call(name: str, made: Callable[[], Any]) -> Any:
    """Make a call and remember what it gave."""
    try:
        found = made()
    except ApiException as error:
        detail = json.loads(error.body)["detail"] if error.body else error.reason
        found = {"status": error.status, "detail": detail}
    results[name] = found
    return found


def trigger(dag_id: str, **body: Any) -> Any:
    return runs.trigger_dag_run(dag_id, TriggerDAGRunPostBody(**body))


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
    call("version", lambda: airflow.VersionApi(client).get_version().version.partition("+")[0])
    call("health", lambda: airflow.MonitorApi(client).get_health().scheduler.status)
    call("dags", lambda: [dag.dag_id for dag in dags.get_dags(limit=3).dags])
    call(
        "dags of a pattern",
        lambda: [dag.dag_id for dag in dags.get_dags(dag_id_pattern="O%P", order_by=LAST_NAME_FIRST).dags],
    )
    call("dags that are paused", lambda: dags.get_dags(paused=True).total_entries)
    call("dag", lambda: dags.get_dag("noop").max_active_runs)
    call("unknown dag", lambda: dags.get_dag("nope"))
    call("details", lambda: sorted(dags.get_dag_details("strict").params))
    call("tasks", lambda: [task.task_id for task in airflow.TaskApi(client).get_tasks("pyop").tasks])
    call("task", lambda: airflow.TaskApi(client).get_task("pyop", "hello").downstream_task_ids)
    call("stats", lambda: len(airflow.DagStatsApi(client).get_dag_stats(dag_ids=["noop", "pyop"]).dags[0].stats))


def trigger_runs() -> None:
    first = f"{PREFIX}+first:1"
    call("trigger", lambda: state_of(trigger("pyop", dag_run_id=first, conf={"a": 1}, note="hi")))
    call("run that ended", lambda: state_of(ended("pyop", first)))
    call("its conf and note", lambda: [runs.get_dag_run("pyop", first).conf, runs.get_dag_run("pyop", first).note])
    call("same id again", lambda: trigger("pyop", dag_run_id=first)["detail"])
    call("without an id", lambda: trigger("pyop").dag_run_id[:8])
    call("unknown to trigger", lambda: trigger("nope"))
    call("params missing", lambda: trigger("strict"))
    call("params wrong", lambda: trigger("strict", conf={"req": "x", "n": -1}))
    call("params right", lambda: state_of(trigger("strict", conf={"req": "x"}, dag_run_id=f"{PREFIX}-strict")))
    call("odd id", lambda: trigger("pyop", dag_run_id="a b&c"))


def read_runs() -> None:
    first = f"{PREFIX}+first:1"
    call("list", lambda: len(runs.get_dag_runs("pyop", order_by=NEWEST_FIRST, limit=1).dag_runs))
    call("list of all", lambda: runs.get_dag_runs("~", state=["success"], run_type=["manual"]).total_entries > 0)
    call("list of an unknown dag", lambda: runs.get_dag_runs("nope"))
    call("list of a wrong state", lambda: runs.get_dag_runs("pyop", state=["nope"]))
    call(
        "batch",
        lambda: runs.get_list_dag_runs_batch("~", DAGRunsBatchBody(dag_ids=["pyop"], page_limit=1)).dag_runs[0].dag_id,
    )
    call(
        "task instances",
        lambda: [
            [t.task_id, t.state.value, t.try_number] for t in tasks.get_task_instances("pyop", first).task_instances
        ],
    )
    call("task instance", lambda: tasks.get_task_instance("pyop", first, "hello").map_index)
    call("tries", lambda: [t.state.value for t in tasks.get_task_instance_tries("pyop", first, "again").task_instances])
    call("unknown task instance", lambda: tasks.get_task_instance("pyop", first, "nope"))
    call("log", lambda: [line.event for line in tasks.get_log("pyop", first, "hello", 1).content.actual_instance])
    call("log in full", lambda: tasks.get_log("pyop", first, "again", 2, full_content=True).continuation_token)
    call("log of no try", lambda: tasks.get_log("pyop", first, "hello", 9))
    trigger("mapped", dag_run_id=f"{PREFIX}-mapped")
    ended("mapped", f"{PREFIX}-mapped")
    call("mapped", lambda: tasks.get_mapped_task_instances("mapped", f"{PREFIX}-mapped", "square").total_entries)
    call("one of them", lambda: tasks.get_mapped_task_instance("mapped", f"{PREFIX}-mapped", "square", 2).state.value)


def change_runs() -> None:
    run_id, broken = f"{PREFIX}-patient", Path(DIRECTORY) / f"broken-{PREFIX}"
    broken.touch()
    trigger("patient", dag_run_id=run_id, conf={"broken": str(broken)})
    call("run that failed", lambda: state_of(ended("patient", run_id)))
    call("note", lambda: runs.patch_dag_run("patient", run_id, DAGRunPatchBody(note="look"), update_mask=["note"]).note)
    call("marked", lambda: state_of(runs.patch_dag_run("patient", run_id, DAGRunPatchBody(state="success"))))
    call("marked again", lambda: state_of(runs.patch_dag_run("patient", run_id, DAGRunPatchBody(state="failed"))))
    broken.unlink()
    clear = DAGRunClearBody(dry_run=False, only_failed=True)
    call("cleared", lambda: state_of(runs.clear_dag_run("patient", run_id, clear).actual_instance))
    call("run that was cleared", lambda: state_of(ended("patient", run_id)))
    call("its note", lambda: runs.get_dag_run("patient", run_id).note)
    call(
        "nothing to clear",
        lambda: runs.clear_dag_run("patient", run_id, DAGRunClearBody(only_failed=True)).actual_instance.total_entries,
    )
    call("queued", lambda: state_of(runs.patch_dag_run("patient", run_id, DAGRunPatchBody(state="queued"))))
    call("run that was queued again", lambda: state_of(ended("patient", run_id)))
    call("listed once", lambda: [run.dag_run_id for run in runs.get_dag_runs("patient").dag_runs].count(run_id))
    call("deleted", lambda: runs.delete_dag_run("patient", run_id))
    call("run that is deleted", lambda: runs.get_dag_run("patient", run_id))


def pause_and_backfill() -> None:
    call("paused", lambda: dags.patch_dag("noop", DAGPatchBody(is_paused=True), update_mask=["is_paused"]).is_paused)
    call("run of a paused dag", lambda: state_of(trigger("noop", dag_run_id=f"{PREFIX}-paused")))
    body = {"dag_id": "noop", "from_date": "2024-05-01T00:00:00Z", "to_date": "2024-05-03T00:00:00Z"}
    wanted = BackfillPostBody(**body, reprocess_behavior="completed")
    call("backfill dry", lambda: backfills.create_backfill_dry_run(wanted).total_entries)
    made = call("backfill", lambda: backfills.create_backfill(wanted).id)
    call("backfill twice", lambda: backfills.create_backfill(wanted))
    call("backfills", lambda: [one.id for one in backfills.list_backfills("noop").backfills][-1] == made)
    call("backfill read", lambda: backfills.get_backfill(made).reprocess_behavior.value)
    call("backfill paused", lambda: backfills.pause_backfill(made).is_paused)
    call("backfill unpaused", lambda: backfills.unpause_backfill(made).is_paused)
    call("backfill cancelled", lambda: backfills.cancel_backfill(made).completed_at is not None)
    call("backfill that is over", lambda: backfills.pause_backfill(made))
    call("unpaused", lambda: dags.patch_dag("noop", DAGPatchBody(is_paused=False)).is_paused)
    call("run that was let go", lambda: state_of(ended("noop", f"{PREFIX}-paused")))


def wait_for_runs() -> None:
    trigger("pyop", dag_run_id=f"{PREFIX}-waited")
    if hasattr(airflow, "ExperimentalApi"):
        waited = airflow.ExperimentalApi(client)
        text = waited.wait_dag_run_until_finished("pyop", f"{PREFIX}-waited", 1.0)
    else:
        path = f"{HOST}/api/v2/dags/pyop/dagRuns/{PREFIX}-waited/wait?interval=1"
        request = urllib.request.Request(path, headers={"authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request) as answer:
            text = answer.read().decode()
    last = text if isinstance(text, dict) else json.loads(text.splitlines()[-1])
    results["waited"] = last["state"]
    stranger = airflow.DAGApi(connect("wrong"))
    call("with a wrong token", lambda: stranger.get_dags())


for part in (look_around, trigger_runs, read_runs, change_runs, pause_and_backfill, wait_for_runs):
    part()
sys.stdout.write(json.dumps(results))
