"""What Brokoli says of pipelines and of many runs together, made out of ours."""

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.dialects.brokoli.wire import RUN_STATUS, list_run, name_of
from schemas import overviews
from schemas.firing import ClockStatus
from schemas.overviews import Day, Hit, Hour
from schemas.pipelines import Block, Pipeline
from schemas.runs import Run
from schemas.schedules import Schedule

_MEGABYTE = 1 << 20
_CODE = "code"  # the type that a node of Brokoli has when it is a function of its author


class PipelineSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline in a list. There is no webhook token in it: nobody is shown one twice."""

    id: str
    name: str
    description: str
    schedule: str
    enabled: bool
    tags: list[str]
    node_count: int
    edge_count: int
    pipeline_id: str
    created_at: dt.datetime
    updated_at: dt.datetime
    source: str = "git"  # it is a file, and no canvas


class PipelineNode(msgspec.Struct, frozen=True):
    """A node on its canvas."""

    id: str
    name: str
    position: dict[str, int]
    type: str = _CODE
    config: dict[str, Any] = {}


class PipelineDetail(PipelineSummary, frozen=True, kw_only=True):
    """A pipeline by itself."""

    nodes: list[PipelineNode]
    edges: list[dict[str, str]]
    schedule_timezone: str | UnsetType = UNSET
    webhook_url: str = ""
    params: dict[str, str] = {}


class CalendarDay(msgspec.Struct, frozen=True):
    """The runs of a day of UTC; those that are queued count as running."""

    date: dt.date
    total: int
    success: int
    failed: int
    running: int


class ScheduleEntry(msgspec.Struct, frozen=True, kw_only=True):
    """When a pipeline runs next."""

    pipeline_id: str
    pipeline_name: str
    schedule: str
    enabled: bool
    next_run: dt.datetime | None
    last_run: dt.datetime | UnsetType = UNSET


class RecentRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run on the dashboard."""

    pipeline_id: str
    pipeline_name: str
    run_id: uuid.UUID
    status: str
    error: str | UnsetType = UNSET
    started_at: dt.datetime | UnsetType = UNSET
    finished_at: dt.datetime | UnsetType = UNSET


class Trend(msgspec.Struct, frozen=True):
    """A day of the last week."""

    date: dt.date
    success: int
    failed: int
    total: int


class Failing(msgspec.Struct, frozen=True):
    """How often a pipeline failed."""

    pipeline_id: str
    name: str
    fail_count: int


class Dashboard(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at a glance; `success_rate_24h` are percent, 100 when nothing ran."""

    pipelines: list[PipelineSummary]
    recent_runs: list[RecentRun]
    trends: list[Trend]
    top_failing: list[Failing]
    runs_today: int
    runs_yesterday: int
    runs_running: int
    running_run_ids: list[uuid.UUID]
    runs_24h_total: int
    runs_24h_success: int
    runs_24h_failed: int
    success_rate_24h: int


class LineageNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dataset (`table`) or a node that works on it (`processing`)."""

    id: str
    type: str
    name: str
    sub_type: str = ""
    pipeline_id: str = ""
    pipeline: str = ""


class LineageEdge(msgspec.Struct, frozen=True, rename={"source": "from", "target": "to"}):
    """The way of data, in the direction in which they go."""

    source: str
    target: str
    pipeline_id: str
    pipeline: str


class Lineage(msgspec.Struct, frozen=True):
    """The data of all pipelines."""

    nodes: list[LineageNode]
    edges: list[LineageEdge]


class Found(msgspec.Struct, frozen=True):
    """One thing that a search found; `meta` is where `/v1` shows it."""

    type: str
    id: str
    name: str
    description: str
    meta: str


class SystemInfo(msgspec.Struct, frozen=True):
    """The installation."""

    version: str
    db_size: int
    db_size_mb: str
    pipelines: int
    active_runs: int
    max_concurrent_runs: int


def list_pipeline(pipeline: Pipeline, schedule: Schedule | None) -> PipelineSummary:
    """Show a pipeline in a list."""
    return PipelineSummary(**_summary(pipeline, schedule))


def show_pipeline(pipeline: Pipeline, schedule: Schedule | None) -> PipelineDetail:
    """Show a pipeline by itself, its nodes in a row."""
    blocks = _blocks(pipeline)
    return PipelineDetail(
        **_summary(pipeline, schedule),
        nodes=[PipelineNode(block.id, name_of(block), {"x": 250 * at, "y": 0}) for at, block in enumerate(blocks)],
        edges=[{"from": before, "to": block.id} for block in blocks for before in block.upstream],
        schedule_timezone=schedule.timezone if schedule else UNSET,
    )


def name_pipeline(pipeline: Pipeline) -> str:
    """Say what people call a pipeline."""
    return pipeline.name or pipeline.id


def show_days(days: Iterable[Day]) -> list[CalendarDay]:
    """Show days with the states that Brokoli counts."""
    return [CalendarDay(day.date, day.total, day.success, day.failed, day.running + day.queued) for day in days]


def show_clock(clock: ClockStatus, names: Mapping[str, str]) -> ScheduleEntry:
    """Show where the clock of a schedule stands."""
    return ScheduleEntry(
        pipeline_id=clock.pipeline_id,
        pipeline_name=names.get(clock.pipeline_id, clock.pipeline_id),
        schedule=_timetable(clock),
        enabled=not clock.is_paused,
        next_run=clock.next_fire_at,
        last_run=clock.last_fired_at or UNSET,
    )


def show_dashboard(
    ours: overviews.Dashboard,
    pipelines: Sequence[PipelineSummary],
    recent: Iterable[Run],
    running: Iterable[Run],
    hours: Sequence[Hour],
) -> Dashboard:
    """Put the dashboard together; `hours` are those of the last day."""
    names = {pipeline.id: pipeline.name for pipeline in pipelines}
    success, failed = (sum(getattr(hour, state) for hour in hours) for state in ("success", "failed"))
    others = sum(hour.cancelled + hour.running + hour.queued for hour in hours)
    total = success + failed + others
    return Dashboard(
        pipelines=list(pipelines),
        recent_runs=[_recent(run, names) for run in recent],
        trends=[Trend(day.date, day.success, day.failed, day.total) for day in ours.trend],
        top_failing=[
            Failing(each.pipeline_id, names.get(each.pipeline_id, each.pipeline_id), each.failed)
            for each in ours.top_failing
        ],
        runs_today=ours.runs_today,
        runs_yesterday=ours.runs_yesterday,
        runs_running=ours.running,
        running_run_ids=[run.id for run in running],
        runs_24h_total=total,
        runs_24h_success=success,
        runs_24h_failed=failed,
        success_rate_24h=100 * success // total if total else 100,
    )


def show_lineage(ours: overviews.Lineage, names: Mapping[str, str]) -> Lineage:
    """Show the datasets and the blocks that read and write them."""
    shown = {node.id: _lineage_node(node, names) for node in ours.nodes if node.type in ("block", "dataset")}
    edges = [
        _lineage_edge(shown[edge.source], shown[edge.target])
        for edge in ours.edges
        if edge.source in shown and edge.target in shown
    ]
    return Lineage(list(shown.values()), edges)


def show_hit(hit: Hit) -> Found:
    """Show what a search found."""
    return Found(hit.type, hit.id, hit.name, hit.description, hit.url)


def show_system(ours: overviews.System, *, runs_of_a_runner: int) -> SystemInfo:
    """Show the installation; how many runs fit is what the runners that are alive can take."""
    alive = sum(runner.is_alive for runner in ours.runners)
    size = ours.database_bytes
    return SystemInfo(
        version=ours.version,
        db_size=size,
        db_size_mb=f"{size / _MEGABYTE:.2f} MB",
        pipelines=ours.pipelines,
        active_runs=ours.active_runs,
        max_concurrent_runs=alive * runs_of_a_runner,
    )


def _summary(pipeline: Pipeline, schedule: Schedule | None) -> dict[str, Any]:
    blocks = _blocks(pipeline)
    return {
        "id": pipeline.id,
        "name": name_pipeline(pipeline),
        "description": pipeline.doc if pipeline.description is None else pipeline.description,
        "schedule": _timetable(schedule) if schedule else "",
        "enabled": not pipeline.is_paused,
        "tags": [],
        "node_count": len(blocks),
        "edge_count": sum(len(block.upstream) for block in blocks),
        "pipeline_id": pipeline.id,
        "created_at": pipeline.created_at,
        "updated_at": pipeline.updated_at,
    }


def _blocks(pipeline: Pipeline) -> Sequence[Block]:
    return pipeline.graph.blocks if pipeline.graph else ()


def _timetable(schedule: Schedule | ClockStatus) -> str:
    """Write an interval as the cron library of Brokoli does."""
    return schedule.cron or f"@every {schedule.every_s}s"


def _recent(run: Run, names: Mapping[str, str]) -> RecentRun:
    return RecentRun(
        pipeline_id=run.pipeline_id,
        pipeline_name=names.get(run.pipeline_id, run.pipeline_id),
        run_id=run.id,
        status=RUN_STATUS[run.state],
        error=list_run(run).error,
        started_at=run.started_at or UNSET,
        finished_at=run.finished_at or UNSET,
    )


def _lineage_node(node: overviews.Node, names: Mapping[str, str]) -> LineageNode:
    if node.type == "dataset":
        return LineageNode(f"table:{node.name}", "table", node.name)
    pipeline_id = node.pipeline_id or ""
    pipeline = names.get(pipeline_id, pipeline_id)
    return LineageNode(f"proc:{pipeline_id}:{node.name}", "processing", node.name, _CODE, pipeline_id, pipeline)


def _lineage_edge(source: LineageNode, target: LineageNode) -> LineageEdge:
    block = source if source.pipeline_id else target
    return LineageEdge(source.id, target.id, block.pipeline_id, block.pipeline)
