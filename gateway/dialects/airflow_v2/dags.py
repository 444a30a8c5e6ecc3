"""Airflow 3's DAGs and tasks, made out of our pipelines and blocks."""

import datetime as dt
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.dialects.airflow_v2.wire import POOL
from schemas.overviews import RunTotals
from schemas.pipelines import Block, Pipeline
from schemas.schedules import Schedule

OWNER = "penstock"  # our pipelines belong to nobody
MOST_TASKS = 16  # Airflow's own default of max_active_tasks
_DAY_S = 86_400
_VERSION_NAMESPACE = uuid.UUID("0a0f2a1d-6c53-5f3c-8f0c-3d1c8d9d1c55")  # any, but always the same
_BOOLEAN_BACKOFF = re.compile(r"OpenAPI-Generator/3\.[01]\.")


class DagVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The version of a pipeline that is in force; ours have no numbers."""

    id: uuid.UUID
    dag_id: str
    created_at: dt.datetime
    version_number: int = 1
    bundle_name: str = OWNER
    bundle_version: str | None
    bundle_url: str | None = None
    dag_display_name: str


class Dag(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline, as lists show it."""

    dag_id: str
    dag_display_name: str
    is_paused: bool
    is_stale: bool = False
    last_parsed_time: dt.datetime
    last_parse_duration: float | None = None
    last_expired: dt.datetime | None = None
    bundle_name: str = OWNER
    bundle_version: str | None
    relative_fileloc: str
    fileloc: str
    file_token: str
    description: str | None
    timetable_summary: str | None
    timetable_description: str
    timetable_partitioned: bool = False
    timetable_periodic: bool
    tags: tuple[()] = ()
    max_active_tasks: int = MOST_TASKS
    max_active_runs: int | None
    max_consecutive_failed_dag_runs: int = 0
    has_task_concurrency_limits: bool = False
    has_import_errors: bool
    next_dagrun_logical_date: dt.datetime | None
    next_dagrun_data_interval_start: dt.datetime | None
    next_dagrun_data_interval_end: dt.datetime | None
    next_dagrun_run_after: dt.datetime | None
    allowed_run_types: None = None
    owners: tuple[str, ...] = (OWNER,)
    is_backfillable: bool


class DagDetails(Dag, frozen=True, kw_only=True):
    """A pipeline by itself; `params` are its variables, by name."""

    catchup: bool
    concurrency: int = MOST_TASKS
    dag_run_timeout: str | None
    asset_expression: None = None
    doc_md: str | None
    start_date: dt.datetime | None
    end_date: dt.datetime | None
    is_paused_upon_creation: bool | None = None
    params: dict[str, Any]
    render_template_as_native_obj: bool = False
    template_search_path: None = None
    timezone: str
    last_parsed: dt.datetime
    default_args: dict[str, Any] = {}
    owner_links: dict[str, str] = {}
    is_favorite: bool = False
    active_runs_count: int
    rerun_with_latest_version: bool | None = None
    latest_dag_version: DagVersion


class Dags(msgspec.Struct, frozen=True):
    """A part of the list of pipelines."""

    dags: Sequence[Dag]
    total_entries: int


class Tasks(msgspec.Struct, frozen=True):
    """The blocks of a pipeline."""

    tasks: Sequence[dict[str, Any]]
    total_entries: int


def show_dag(pipeline: Pipeline, schedule: Schedule | None) -> Dag:
    """Show a pipeline; its timetable is that of its oldest schedule of kind time."""
    return Dag(**_shared(pipeline, schedule))


def show_details(pipeline: Pipeline, schedule: Schedule | None, totals: RunTotals | None) -> DagDetails:
    """Show a pipeline by itself."""
    timeout = pipeline.run_timeout_s
    return DagDetails(
        **_shared(pipeline, schedule),
        catchup=schedule.catchup if schedule else False,
        dag_run_timeout=None if timeout is None else _iso_duration(timeout),
        doc_md=pipeline.doc or None,
        start_date=schedule.start_at if schedule else None,
        end_date=schedule.end_at if schedule else None,
        params=_params(pipeline.params_schema),
        timezone=schedule.timezone if schedule else "UTC",
        last_parsed=pipeline.updated_at,
        active_runs_count=totals.running if totals else 0,
        latest_dag_version=DagVersion(
            id=uuid.uuid5(_VERSION_NAMESPACE, f"{pipeline.id}/{pipeline.version}"),
            dag_id=pipeline.id,
            created_at=pipeline.updated_at,
            bundle_version=pipeline.version,
            dag_display_name=pipeline.id,
        ),
    )


def show_totals(pipeline_id: str, totals: RunTotals) -> dict[str, Any]:
    """Show how many runs of a pipeline are in each of Airflow's states; what was cancelled has failed."""
    counts = {
        "queued": totals.queued,
        "running": totals.running,
        "success": totals.success,
        "failed": totals.failed + totals.cancelled,
    }
    stats = [{"state": state, "count": count} for state, count in counts.items()]
    return {"dag_id": pipeline_id, "dag_display_name": pipeline_id, "stats": stats}


def blocks_of(pipeline: Pipeline) -> dict[str, Block]:
    """Find the blocks of a pipeline by their id, in their order."""
    return {block.id: block for block in pipeline.graph.blocks} if pipeline.graph else {}


def show_task(block: Block, blocks: Mapping[str, Block], queue: str, user_agent: str) -> dict[str, Any]:
    """Show a block.

    The clients of 3.0 and 3.1 take only a boolean for `retry_exponential_backoff`, later ones only a number: nothing
    fits both, and a client tells which it is in its User-Agent.
    """
    return {
        "task_id": block.id,
        "task_display_name": block.id,
        "owner": OWNER,
        "start_date": None,
        "end_date": None,
        "trigger_rule": block.trigger_rule,
        "depends_on_past": False,
        "wait_for_downstream": False,
        "retries": block.retries,
        "queue": block.queue or queue,
        "pool": POOL,
        "pool_slots": 1,
        "execution_timeout": None if block.timeout is None else _time_delta(block.timeout),
        "retry_delay": _time_delta(block.retry_delay),
        "retry_exponential_backoff": True if _BOOLEAN_BACKOFF.match(user_agent) else 2.0,
        "priority_weight": 1,
        "weight_rule": "downstream",
        "ui_color": "#fff",
        "ui_fgcolor": "#000",
        "template_fields": [],
        "downstream_task_ids": [other.id for other in blocks.values() if block.id in other.upstream],
        "doc_md": block.doc or None,
        "operator_name": "block",
        "params": {},
        "class_ref": {"module_path": "runner", "class_name": "Block"},
        "is_mapped": block.map is not None,
        "extra_links": [],
    }


def _shared(pipeline: Pipeline, schedule: Schedule | None) -> dict[str, Any]:
    next_fire_at = schedule.next_fire_at if schedule and not schedule.is_paused else None
    first_line = pipeline.doc.strip().partition("\n")[0]
    return {
        "dag_id": pipeline.id,
        "dag_display_name": pipeline.id,
        "is_paused": pipeline.is_paused,
        "last_parsed_time": pipeline.updated_at,
        "bundle_version": pipeline.version,
        "relative_fileloc": pipeline.file,
        "fileloc": pipeline.file,
        "file_token": pipeline.id,
        "description": first_line or None,
        "timetable_summary": _summary(schedule),
        "timetable_description": _describe(schedule),
        "timetable_periodic": schedule is not None,
        "max_active_runs": pipeline.max_active_runs,
        "has_import_errors": pipeline.error is not None,
        "next_dagrun_logical_date": next_fire_at,
        "next_dagrun_data_interval_start": next_fire_at,
        "next_dagrun_data_interval_end": next_fire_at,
        "next_dagrun_run_after": next_fire_at,
        "is_backfillable": schedule is not None,
    }


def _summary(schedule: Schedule | None) -> str | None:
    if schedule is None:
        return None
    return schedule.cron or str(dt.timedelta(seconds=schedule.every_s or 0))


def _describe(schedule: Schedule | None) -> str:
    if schedule is None:
        return "Never, external triggers only"
    return f"{_summary(schedule)} in {schedule.timezone}"


def _params(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    if schema is None:
        return {}
    reference = str(schema.get("$ref", "")).rpartition("/")[2]
    own = schema.get("$defs", {}).get(reference, schema)
    return {
        name: {
            "value": declared.get("default"),
            "schema": {key: value for key, value in declared.items() if key not in ("default", "description")},
            "description": declared.get("description"),
            "source": None,
        }
        for name, declared in own.get("properties", {}).items()
    }


def _time_delta(seconds: float) -> dict[str, Any]:
    delta = dt.timedelta(seconds=seconds)
    return {
        "__type": "TimeDelta",
        "days": delta.days,
        "seconds": delta.seconds,
        "microseconds": delta.microseconds,
    }


def _iso_duration(seconds: float) -> str:
    days, rest = divmod(seconds, _DAY_S)
    return f"P{int(days)}DT{rest:g}S" if days else f"PT{rest:g}S"
