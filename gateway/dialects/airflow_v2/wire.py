"""Airflow 3's runs, task instances and backfills, made out of ours.

Each Struct has all members that any client from 3.0 on needs, for these refuse an answer in which one is missing. A run
is known by the name of the first of those that repeat one another, so that one that was cleared keeps its dag_run_id.
"""

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.dialects.airflow_v2.queries import DagRunState, DagRunType
from schemas.backfills import Backfill, BackfillState
from schemas.pipelines import Block
from schemas.runs import BlockAttempt, BlockRun, LogLine, NamedRun
from schemas.states import BlockState, Origin, RunState

UNMAPPED = -1
POOL = "default_pool"
RUN_STATES = {
    RunState.QUEUED: DagRunState.QUEUED,
    RunState.RUNNING: DagRunState.RUNNING,
    RunState.SUCCESS: DagRunState.SUCCESS,
    RunState.FAILED: DagRunState.FAILED,
    RunState.CANCELLED: DagRunState.FAILED,
}
_RUN_TYPES = {Origin.TIME: DagRunType.SCHEDULED, Origin.BACKFILL: DagRunType.BACKFILL}
_TRIGGERED_BY = {Origin.TIME: "timetable", Origin.BACKFILL: "backfill", Origin.RUN: "operator"}
_TASK_STATES = {
    BlockState.RUNNING: "running",
    BlockState.SUCCESS: "success",
    BlockState.FAILED: "failed",
    BlockState.SKIPPED: "skipped",
    BlockState.UPSTREAM_FAILED: "upstream_failed",
}
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


class TaskTry(msgspec.Struct, frozen=True, kw_only=True):
    """One try of one block of a run, or of one item of a mapped block."""

    task_id: str
    dag_id: str
    dag_run_id: str
    map_index: int
    start_date: dt.datetime | None
    end_date: dt.datetime | None
    duration: float | None
    state: str | None
    try_number: int
    max_tries: int
    task_display_name: str
    dag_display_name: str
    hostname: str | None = None
    unixname: str | None = None
    pool: str = POOL
    pool_slots: int = 1
    queue: str | None
    priority_weight: int | None = None
    operator: str | None = None
    operator_name: str | None = None
    queued_when: dt.datetime | None = None
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
    rendered_fields: dict[str, Any] = {}
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


def run_id_of(named: NamedRun) -> str:
    """Say by which dag_run_id a run is known: its name, or an id if that would not go into a path."""
    name = named.name.name
    return str(named.name.first_id) if "/" in name or name in (".", "..") else name


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
        duration=_seconds(run.started_at, run.finished_at),
        data_interval_start=run.logical_date,
        data_interval_end=run.logical_date,
        run_after=run.created_at,
        last_scheduling_decision=run.started_at,
        run_type=_RUN_TYPES.get(origin, DagRunType.MANUAL),
        state=RUN_STATES[run.state],
        triggered_by=_TRIGGERED_BY.get(origin, "rest_api"),
        conf=run.variables,
        note=run.note,
        dag_display_name=run.pipeline_id,
    )


def show_tasks(named: NamedRun, blocks: Mapping[str, Block]) -> list[TaskInstance]:
    """Show the blocks of a run in their order; of a mapped one that has begun only its items."""
    found = named.run.block_runs
    mapped = {block.block_id for block in found if block.map_index is not None}
    return [
        _show_task(named, block, blocks.get(block.block_id))
        for block in found
        if block.map_index is not None or block.block_id not in mapped
    ]


def show_tries(task: TaskInstance, attempts: Sequence[BlockAttempt]) -> list[TaskTry]:
    """Show all tries of a task instance, the first one first."""
    shared = {name: getattr(task, name) for name in TaskTry.__struct_fields__}
    return [
        TaskTry(
            **shared
            | {
                "try_number": attempt.attempt,
                "start_date": attempt.started_at,
                "end_date": attempt.finished_at,
                "duration": _seconds(attempt.started_at, attempt.finished_at),
                "state": task_state(attempt.state, attempt.attempt, has_started=True),
            }
        )
        for attempt in attempts
    ]


def task_state(state: BlockState, attempt: int, *, has_started: bool) -> str | None:
    """Translate a state: None before a block's first try; what was cancelled has failed, or was never begun."""
    if state is BlockState.PENDING:
        return "up_for_retry" if attempt else None
    if state is BlockState.CANCELLED:
        return "failed" if has_started else "skipped"
    return _TASK_STATES[state]


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


def sorted_by(attributes: Sequence[str], tasks: Sequence[TaskInstance]) -> list[TaskInstance]:
    """Sort task instances by several attributes; those that have no such value come last."""
    found = list(tasks)
    for attribute in reversed(attributes):
        name, is_descending = attribute.lstrip("-"), attribute.startswith("-")
        found.sort(key=_value_of(name), reverse=is_descending)
        found.sort(key=lambda task, name=name: getattr(task, name) is None)  # type: ignore[misc]
    return found


def _value_of(name: str) -> Callable[[TaskInstance], Any]:
    return lambda task: ("" if getattr(task, name) is None else getattr(task, name)) if name != "id" else str(task.id)


def _show_task(named: NamedRun, block_run: BlockRun, block: Block | None) -> TaskInstance:
    run, map_index = named.run, UNMAPPED if block_run.map_index is None else block_run.map_index
    started_at = block_run.started_at
    return TaskInstance(
        id=uuid.uuid5(_TASK_NAMESPACE, f"{run.id}/{block_run.block_id}/{map_index}"),
        task_id=block_run.block_id,
        dag_id=run.pipeline_id,
        dag_run_id=run_id_of(named),
        map_index=map_index,
        logical_date=run.logical_date,
        run_after=run.created_at,
        start_date=started_at,
        end_date=block_run.finished_at,
        duration=_seconds(started_at, block_run.finished_at),
        state=task_state(block_run.state, block_run.attempt, has_started=started_at is not None),
        try_number=block_run.attempt,
        max_tries=block.retries if block else 0,
        task_display_name=block_run.block_id,
        dag_display_name=run.pipeline_id,
        queue=(block and block.queue) or run.queue,
        queued_when=_queued_when(block_run),
        rendered_map_index=None if block_run.map_index is None else str(block_run.map_index),
    )


def _queued_when(block_run: BlockRun) -> dt.datetime | None:
    if block_run.started_at is None or block_run.queue_ms is None:
        return None
    return block_run.started_at - dt.timedelta(milliseconds=block_run.queue_ms)


def _seconds(start: dt.datetime | None, end: dt.datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()
