"""Airflow 2's structures, made out of ours.

A run is known by the name of the first of those that repeat one another. It always has a logical date there: one that
has none in Penstock is dated by when it was made. Dates are texts, since Airflow 2 writes `+00:00` and not `Z`.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.airflow import pipelines
from gateway.airflow.runs import run_id_of
from gateway.airflow.standings import Standing
from gateway.airflow.words import MOST_TASKS, OWNER, POOL, RUN_STATES, UNMAPPED, DagRunState, run_type
from gateway.dialects.airflow_v1.dates import write, write_if_any
from gateway.dialects.airflow_v1.errors import titled
from schemas.pipelines import Pipeline
from schemas.runs import NamedRun, Run
from schemas.schedules import Schedule

HOST = "penstock"  # on which everything ran, as far as logs tell


class DagRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run; `external_trigger` is false for what the clock or a backfill began."""

    conf: msgspec.Raw
    dag_id: str
    dag_run_id: str
    data_interval_end: str
    data_interval_start: str
    end_date: str | None
    execution_date: str
    external_trigger: bool
    last_scheduling_decision: str | None
    logical_date: str
    note: str | None
    run_type: str
    start_date: str | None
    state: DagRunState


class DagRuns(msgspec.Struct, frozen=True):
    """A part of a list of runs."""

    dag_runs: Sequence[Any]
    total_entries: int


class TaskTry(msgspec.Struct, frozen=True, kw_only=True):
    """One try of one block of a run, or of one item of a mapped block."""

    dag_id: str
    dag_run_id: str
    duration: float | None
    end_date: str | None
    executor: str | None = None
    executor_config: str = "{}"
    hostname: str = ""
    map_index: int
    max_tries: int
    operator: str | None = None
    pid: int | None = None
    pool: str = POOL
    pool_slots: int = 1
    priority_weight: int = 1
    queue: str
    queued_when: str | None
    start_date: str | None
    state: str | None
    task_display_name: str
    task_id: str
    try_number: int
    unixname: str = OWNER


class TaskInstance(TaskTry, frozen=True, kw_only=True):
    """Where a block of a run stands."""

    execution_date: str
    note: str | None = None
    rendered_fields: dict[str, Any] = msgspec.field(default_factory=dict)
    rendered_map_index: str | None = None
    sla_miss: None = None
    trigger: None = None
    triggerer_job: None = None


class TaskInstances(msgspec.Struct, frozen=True):
    """A part of the task instances of a run, or of the tries of one."""

    task_instances: Sequence[TaskTry]
    total_entries: int


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Which block of which run would be, or was, cleared."""

    dag_id: str
    dag_run_id: str
    execution_date: str
    task_id: str


class References(msgspec.Struct, frozen=True):
    """What would be, or was, cleared."""

    task_instances: Sequence[Reference]


class Dag(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline, as lists show it."""

    dag_display_name: str
    dag_id: str
    default_view: str = "grid"
    description: str | None
    file_token: str
    fileloc: str
    has_import_errors: bool
    has_task_concurrency_limits: bool = False
    is_active: bool = True
    is_paused: bool
    is_subdag: bool = False
    last_expired: str | None = None
    last_parsed_time: str
    last_pickled: str | None = None
    max_active_runs: int | None
    max_active_tasks: int = MOST_TASKS
    max_consecutive_failed_dag_runs: int = 0
    next_dagrun: str | None
    next_dagrun_create_after: str | None
    next_dagrun_data_interval_end: str | None
    next_dagrun_data_interval_start: str | None
    owners: tuple[str, ...] = (OWNER,)
    pickle_id: str | None = None
    root_dag_id: str | None = None
    schedule_interval: dict[str, Any] | None
    scheduler_lock: bool | None = None
    tags: tuple[()] = ()
    timetable_description: str


class DagDetails(Dag, frozen=True, kw_only=True):
    """A pipeline by itself; `params` are its variables, by name."""

    catchup: bool
    concurrency: int = MOST_TASKS
    dag_run_timeout: dict[str, Any] | None
    dataset_expression: None = None
    doc_md: str | None
    end_date: str | None
    is_paused_upon_creation: bool | None = None
    last_parsed: str
    orientation: str = "LR"
    params: dict[str, Any]
    render_template_as_native_obj: bool = False
    start_date: str | None
    template_search_path: None = None
    timezone: str


class Dags(msgspec.Struct, frozen=True):
    """A part of the list of pipelines."""

    dags: Sequence[Any]
    total_entries: int


class LogPage(msgspec.Struct, frozen=True):
    """A part of a log: `content` is Python's text of a list with one pair, of a host and of its lines."""

    content: str
    continuation_token: str


def date_of(run: Run) -> dt.datetime:
    """Say by which date Airflow knows a run."""
    return run.logical_date or run.created_at


def show_run(named: NamedRun) -> DagRun:
    """Show a run; what was cancelled has failed, since Airflow has no word for it."""
    run, kind = named.run, run_type(named.name.origin)
    date = write(date_of(run))
    return DagRun(
        conf=run.variables,
        dag_id=run.pipeline_id,
        dag_run_id=run_id_of(named),
        data_interval_end=date,
        data_interval_start=date,
        end_date=write_if_any(run.finished_at),
        execution_date=date,
        external_trigger=kind == "manual",
        last_scheduling_decision=write_if_any(run.started_at),
        logical_date=date,
        note=run.note,
        run_type=kind,
        start_date=write_if_any(run.started_at),
        state=RUN_STATES[run.state],
    )


def show_task(named: NamedRun, standing: Standing) -> TaskInstance:
    """Show where a block of a run stands."""
    return TaskInstance(
        **_of_try(named, standing),
        execution_date=write(date_of(named.run)),
        rendered_map_index=None if standing.map_index == UNMAPPED else str(standing.map_index),
    )


def show_try(named: NamedRun, standing: Standing) -> TaskTry:
    """Show one try of a block of a run."""
    return TaskTry(**_of_try(named, standing))


def refer(named: NamedRun, standing: Standing) -> Reference:
    """Name a block of a run."""
    date = write(date_of(named.run))
    return Reference(
        dag_id=named.run.pipeline_id, dag_run_id=run_id_of(named), execution_date=date, task_id=standing.task_id
    )


def show_dag(pipeline: Pipeline, schedule: Schedule | None) -> Dag:
    """Show a pipeline; its timetable is that of its oldest schedule of kind time."""
    return Dag(**_shared(pipeline, schedule))


def show_details(pipeline: Pipeline, schedule: Schedule | None) -> DagDetails:
    """Show a pipeline by itself."""
    timeout = pipeline.run_timeout_s
    return DagDetails(
        **_shared(pipeline, schedule),
        catchup=schedule.catchup if schedule else False,
        dag_run_timeout=None if timeout is None else pipelines.time_delta(timeout),
        doc_md=pipeline.doc or None,
        end_date=write_if_any(schedule.end_at) if schedule else None,
        last_parsed=write(pipeline.updated_at),
        params=pipelines.params_of(pipeline.params_schema),
        start_date=write_if_any(schedule.start_at) if schedule else None,
        timezone=schedule.timezone if schedule else "UTC",
    )


def pick(shown: msgspec.Struct, fields: Sequence[str]) -> Any:
    """Keep only these members of an object, all if none are named; raises Refused."""
    if not fields:
        return shown
    members = msgspec.structs.asdict(shown)
    for name in fields:
        if name not in members:
            kind = f"{type(shown).__name__.removesuffix('Details').upper().replace('DAGRUN', 'DAGRun')}Schema"
            raise titled(f"{kind} error", f"{name} not in {kind}")
    return {name: members[name] for name in fields}


def _of_try(named: NamedRun, standing: Standing) -> dict[str, Any]:
    return msgspec.structs.asdict(standing) | {
        "dag_id": named.run.pipeline_id,
        "dag_run_id": run_id_of(named),
        "end_date": write_if_any(standing.end_date),
        "queued_when": write_if_any(standing.queued_when),
        "start_date": write_if_any(standing.start_date),
        "task_display_name": standing.task_id,
    }


def _shared(pipeline: Pipeline, schedule: Schedule | None) -> dict[str, Any]:
    next_date = write_if_any(pipelines.next_date(schedule))
    return {
        "dag_display_name": pipeline.name or pipeline.id,
        "dag_id": pipeline.id,
        "description": pipelines.describe(pipeline),
        "file_token": pipeline.id,
        "fileloc": pipeline.file,
        "has_import_errors": pipeline.error is not None,
        "is_paused": pipeline.is_paused,
        "last_parsed_time": write(pipeline.updated_at),
        "max_active_runs": pipeline.max_active_runs,
        "next_dagrun": next_date,
        "next_dagrun_create_after": next_date,
        "next_dagrun_data_interval_end": next_date,
        "next_dagrun_data_interval_start": next_date,
        "schedule_interval": _interval(schedule),
        "timetable_description": pipelines.describe_timetable(schedule),
    }


def _interval(schedule: Schedule | None) -> dict[str, Any] | None:
    if schedule is None:
        return None
    if schedule.cron is None:
        return pipelines.time_delta(schedule.every_s or 0)
    return {"__type": "CronExpression", "value": schedule.cron}
