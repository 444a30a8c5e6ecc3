"""Airflow 3's DAGs and tasks, made out of our pipelines and blocks."""

import datetime as dt
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.airflow import pipelines
from gateway.airflow.words import MOST_TASKS, OWNER
from schemas.overviews import RunTotals
from schemas.pipelines import Block, Pipeline
from schemas.schedules import Schedule

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
        params=pipelines.params_of(pipeline.params_schema),
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
    return {"dag_id": pipeline_id, "dag_display_name": pipeline_id, "stats": pipelines.count_states(totals)}


def show_task(block: Block, blocks: Mapping[str, Block], queue: str, user_agent: str) -> dict[str, Any]:
    """Show a block.

    The clients of 3.0 and 3.1 take only a boolean for `retry_exponential_backoff`, later ones only a number: nothing
    fits both, and a client tells which it is in its User-Agent.
    """
    shown = pipelines.show_task(block, blocks, queue)
    return shown if _BOOLEAN_BACKOFF.match(user_agent) else shown | {"retry_exponential_backoff": 2.0}


def _shared(pipeline: Pipeline, schedule: Schedule | None) -> dict[str, Any]:
    next_date = pipelines.next_date(schedule)
    return {
        "dag_id": pipeline.id,
        "dag_display_name": pipeline.name or pipeline.id,
        "is_paused": pipeline.is_paused,
        "last_parsed_time": pipeline.updated_at,
        "bundle_version": pipeline.version,
        "relative_fileloc": pipeline.file,
        "fileloc": pipeline.file,
        "file_token": pipeline.id,
        "description": pipelines.describe(pipeline),
        "timetable_summary": pipelines.timetable(schedule),
        "timetable_description": pipelines.describe_timetable(schedule),
        "timetable_periodic": schedule is not None,
        "max_active_runs": pipeline.max_active_runs,
        "has_import_errors": pipeline.error is not None,
        "next_dagrun_logical_date": next_date,
        "next_dagrun_data_interval_start": next_date,
        "next_dagrun_data_interval_end": next_date,
        "next_dagrun_run_after": next_date,
        "is_backfillable": schedule is not None,
    }


def _iso_duration(seconds: float) -> str:
    days, rest = divmod(seconds, _DAY_S)
    return f"P{int(days)}DT{rest:g}S" if days else f"PT{rest:g}S"
