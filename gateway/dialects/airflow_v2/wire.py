"""Airflow 3's runs, task instances and backfills, made out of ours.

Each Struct has all members that any client from 3.0 on needs, for these refuse an answer in which one is missing. A run
is known by the name of the first of those that repeat one another, so that one that was cleared keeps its dag_run_id.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.airflow.runs import run_id_of
from gateway.airflow.standings import Standing, seconds, standings
from gateway.airflow.words import POOL, RUN_STATES, UNMAPPED, DagRunState, run_type
from gateway.dialects.airflow_v2.queries import DagRunType
from schemas.backfills import Backfill, BackfillState
from schemas.pipelines import Block
from schemas.runs import LogLine, NamedRun
from schemas.states import Origin

_TRIGGERED_BY = {Origin.TIME: "timetable", Origin.BACKFILL: "backfill", Origin.RUN: "operator"}
_TASK_NAMESPACE = uuid.UUID("5bd6ba65-2f6e-5d7a-b1d5-0d0a6b3c1a37")  # any, but always the same


class DagRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run."""

    dag_run_id: str
    dag_id: str
    logical_date: dt.datetime | None
    queued_at: dt.datetime
    start_date: dt.datetime | None
    end_date: dt.datetime | None
    duration: float | None
    data_interval_start: dt.datetime | None
    data_interval_end: dt.datetime | None
    run_after: dt.datetime
    last_scheduling_decision: dt.datetime | None
    run_type: DagRunType
    state: DagRunState
    triggered_by: str
    triggering_user_name: str | None = None
    conf: msgspec.Raw
    note: str | None
    dag_versions: tuple[()] = ()
    bundle_version: str | None = None
    dag_display_name: str
    partition_key: str | None = None
    partition_date: dt.datetime | None = None


class DagRuns(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a list of runs; cursors only where the client pages by them."""

    dag_runs: Sequence[DagRun]
    total_entries: int
    next_cursor: str | None = None
    previous_cursor: str | None = None


class TaskTry(Standing, frozen=True, kw_only=True):
    """One try of one block of a run, or of one item of a mapped block."""

    dag_id: str
    dag_run_id: str
    task_display_name: str
    dag_display_name: str
    hostname: str | None = None
    unixname: str | None = None
    pool: str = POOL
    pool_slots: int = 1
    priority_weight: int | None = None
    operator: str | None = None
    operator_name: str | None = None
    scheduled_when: dt.datetime | None = None
    pid: int | None = None
    executor: str | None = None
    executor_config: str = "{}"
    dag_version: None = None


class TaskInstance(TaskTry, frozen=True, kw_only=True):
    """Where a block of a run stands."""

    id: uuid.UUID
    logical_date: dt.datetime | None
    run_after: dt.datetime
    note: str | None = None
    rendered_map_index: str | None = None
    rendered_fields: dict[str, Any] = msgspec.field(default_factory=dict)
    trigger: None = None
    triggerer_job: None = None


class TaskInstances(msgspec.Struct, frozen=True):
    """A part of the task instances of a run, or of the tries of one."""

    task_instances: Sequence[TaskTry]
    total_entries: int


class LogPage(msgspec.Struct, frozen=True):
    """A part of a log; without a token that was all."""

    content: Sequence[dict[str, Any]]
    continuation_token: str | None


class ShownBackfill(msgspec.Struct, frozen=True, kw_only=True):
    """A backfill; `from_date` and `to_date` are its first and last logical date."""

    id: int
    dag_id: str
    from_date: dt.datetime
    to_date: dt.datetime
    dag_run_conf: msgspec.Raw
    is_paused: bool
    reprocess_behavior: str
    max_active_runs: int
    created_at: dt.datetime
    completed_at: dt.datetime | None
    updated_at: dt.datetime
    dag_display_name: str


def show_run(named: NamedRun) -> DagRun:
    """Show a run; what was cancelled has failed, since Airflow has no word for it."""
    run, origin = named.run, named.name.origin
    return DagRun(
        dag_run_id=run_id_of(named),
        dag_id=run.pipeline_id,
        logical_date=run.logical_date,
        queued_at=run.created_at,
        start_date=run.started_at,
        end_date=run.finished_at,
        duration=seconds(run.started_at, run.finished_at),
        data_interval_start=run.logical_date,
        data_interval_end=run.logical_date,
        run_after=run.created_at,
        last_scheduling_decision=run.started_at,
        run_type=DagRunType(run_type(origin)),
        state=RUN_STATES[run.state],
        triggered_by=_TRIGGERED_BY.get(origin, "rest_api"),
        conf=run.variables,
        note=run.note,
        dag_display_name=run.pipeline_id,
    )


def show_tasks(named: NamedRun, blocks: Mapping[str, Block]) -> list[TaskInstance]:
    """Show the blocks of a run in their order; of a mapped one that has begun only its items."""
    return [_show_task(named, standing) for standing in standings(named.run, blocks)]


def show_line(line: LogLine) -> dict[str, Any]:
    """Show a line of a log; what Airflow calls event is the message, fields stand beside it."""
    fields = msgspec.json.decode(line.fields, type=dict[str, Any])
    return fields | {"timestamp": line.at, "event": line.message, "level": line.level, "logger": "task"}


def show_backfill(backfill: Backfill, behavior: str, finished_at: dt.datetime | None) -> ShownBackfill:
    """Show a backfill; `finished_at` is when the last of its runs ended, if all have."""
    completed_at = backfill.cancelled_at or (finished_at if backfill.state is BackfillState.COMPLETED else None)
    return ShownBackfill(
        id=backfill.number,
        dag_id=backfill.pipeline_id,
        from_date=backfill.start,
        to_date=backfill.end,
        dag_run_conf=backfill.variables,
        is_paused=backfill.state in (BackfillState.PAUSED, BackfillState.CANCELLED),
        reprocess_behavior=behavior,
        max_active_runs=backfill.max_active_runs,
        created_at=backfill.created_at,
        completed_at=completed_at,
        updated_at=completed_at or backfill.created_at,
        dag_display_name=backfill.pipeline_id,
    )


def narrow(task: TaskInstance) -> TaskTry:
    """Leave out what a list of tries does not show."""
    return TaskTry(**{name: getattr(task, name) for name in TaskTry.__struct_fields__})


def _show_task(named: NamedRun, standing: Standing) -> TaskInstance:
    run, map_index = named.run, standing.map_index
    return TaskInstance(
        **msgspec.structs.asdict(standing),
        id=uuid.uuid5(_TASK_NAMESPACE, f"{run.id}/{standing.task_id}/{map_index}"),
        dag_id=run.pipeline_id,
        dag_run_id=run_id_of(named),
        logical_date=run.logical_date,
        run_after=run.created_at,
        task_display_name=standing.task_id,
        dag_display_name=run.pipeline_id,
        rendered_map_index=None if map_index == UNMAPPED else str(map_index),
    )
