"""Brokoli's runs, nodes, logs and data, made out of ours. A node is a block, and its attempts are counted from 0.

A block that is mapped is one node: its items are in the log, and under `/v1`.
"""

import datetime as dt
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from schemas.dry_runs import DryBlock, DryResult
from schemas.pages import Counted
from schemas.pipelines import Block, Pipeline
from schemas.profiles import ColumnProfile, Drift, ShownPreview, ShownProfile
from schemas.runs import BlockRun, LogLine, Run, RunError
from schemas.states import BlockState, LogLevel, RunState

DEFAULT_PAGE, LARGEST_PAGE = 25, 100
RUN_STATUS = {
    RunState.QUEUED: "pending",
    RunState.RUNNING: "running",
    RunState.SUCCESS: "success",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
}
NODE_STATUS = {
    BlockState.PENDING: "pending",
    BlockState.RUNNING: "running",
    BlockState.SUCCESS: "success",
    BlockState.FAILED: "failed",
    BlockState.CANCELLED: "cancelled",
    BlockState.SKIPPED: "skipped",
    BlockState.UPSTREAM_FAILED: "skipped",
}
_decode_error = msgspec.json.Decoder[RunError | None](RunError | None).decode


class Asked(msgspec.Struct, frozen=True):
    """The body that starts something with parameters: texts there, any JSON here."""

    params: dict[str, Any] | None = None


class Dates(msgspec.Struct, frozen=True):
    """The body of a backfill; both days belong to it."""

    start_date: str = ""
    end_date: str = ""


class Started(msgspec.Struct, frozen=True):
    """The answer to a trigger."""

    id: uuid.UUID
    pipeline_id: str
    status: str = RUN_STATUS[RunState.QUEUED]


class NodeRun(msgspec.Struct, frozen=True, kw_only=True):
    """The newest attempt of a node; what is not known of it is 0 there."""

    id: str
    run_id: uuid.UUID
    node_id: str
    status: str
    row_count: int
    started_at: dt.datetime | None
    duration_ms: int
    error: str | UnsetType = UNSET
    attempt: int
    queue_ms: int
    rows_per_sec: float


class ShownRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run; lists show it without its nodes."""

    id: uuid.UUID
    pipeline_id: str
    status: str
    error: str | UnsetType = UNSET
    params: msgspec.Raw | UnsetType = UNSET
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    node_runs: list[NodeRun] | None


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of runs, with the names of the documents (`per_page`) and those of the server (`page_size`)."""

    items: list[ShownRun]
    total: int
    page: int
    per_page: int
    page_size: int
    pages: int


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a log; `metadata` are its fields."""

    run_id: uuid.UUID
    node_id: str
    level: LogLevel
    message: str
    timestamp: dt.datetime
    attempt: int | UnsetType = UNSET
    metadata: msgspec.Raw | UnsetType = UNSET


class DataPreview(msgspec.Struct, frozen=True):
    """The first rows of a node's data."""

    columns: list[str]
    rows: list[dict[str, Any]]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column of a profile; the least, the greatest and the samples are texts there."""

    name: str
    type: str
    null_count: int
    null_pct: float
    unique_count: int | None
    unique_pct: float | None
    min_val: str | UnsetType = UNSET
    max_val: str | UnsetType = UNSET
    mean_val: Any | UnsetType = UNSET
    is_numeric: bool
    sample_values: list[str]


class DataProfile(msgspec.Struct, frozen=True):
    """A table in figures."""

    row_count: int
    column_count: int
    columns: list[Column]
    profiling_ms: int


class SchemaColumn(msgspec.Struct, frozen=True):
    """A column of a schema."""

    name: str
    type: str
    null_pct: float


class Schema(msgspec.Struct, frozen=True):
    """The columns of a table."""

    columns: list[SchemaColumn]


class NodeProfile(msgspec.Struct, frozen=True):
    """The profile of a node's data, its schema, and how that differs from the run before."""

    profile: DataProfile
    schema: Schema
    drift: list[dict[str, str]]


class DryNode(msgspec.Struct, frozen=True, kw_only=True):
    """What a node did in a dry run."""

    node_id: str
    name: str
    status: str
    columns: list[str]
    rows: list[dict[str, Any]]
    error: str | UnsetType = UNSET


class Durations(msgspec.Struct, frozen=True):
    """How long a node took in its newest runs, the newest first, in milliseconds."""

    durations: list[int]
    avg: int
    p95: int


def show_run(run: Run) -> ShownRun:
    """Show a run with its nodes."""
    nodes = [_show_node(run, block) for block in run.block_runs if block.map_index is None]
    return msgspec.structs.replace(list_run(run), node_runs=nodes)


def list_run(run: Run) -> ShownRun:
    """Show a run without its nodes."""
    return ShownRun(
        id=run.id,
        pipeline_id=run.pipeline_id,
        status=RUN_STATUS[run.state],
        error=_message(run.error),
        params=UNSET if bytes(run.variables) == b"{}" else run.variables,
        started_at=run.started_at,
        finished_at=run.finished_at,
        node_runs=None,
    )


def page_of(found: Counted[Run], number: int, size: int) -> RunPage:
    """Show a page of runs."""
    return RunPage(
        items=[list_run(run) for run in found.items],
        total=found.total,
        page=number,
        per_page=size,
        page_size=size,
        pages=math.ceil(found.total / size),
    )


def show_line(line: LogLine) -> LogEntry:
    """Show a line of a log."""
    return LogEntry(
        run_id=line.run_id,
        node_id=line.block_id or "",
        level=line.level,
        message=line.message,
        timestamp=line.at,
        attempt=max(line.attempt - 1, 0) or UNSET,
        metadata=UNSET if bytes(line.fields) in (b"{}", b"null") else line.fields,
    )


def show_preview(found: ShownPreview) -> DataPreview:
    """Show the first rows; what is no table becomes one of one column and one row."""
    return DataPreview(*_as_table(found.columns, found.rows, found.value))


def show_profile(found: ShownProfile) -> NodeProfile:
    """Show a profile with its schema and drift."""
    columns = [_show_column(column) for column in found.columns]
    return NodeProfile(
        DataProfile(found.row_count, found.column_count, columns, found.profiling_ms),
        Schema([SchemaColumn(column.name, column.type, column.null_pct) for column in found.columns]),
        [_show_drift(drift) for drift in found.drift],
    )


def show_dry_run(found: DryResult, names: Mapping[str, str]) -> dict[str, Any]:
    """Show a dry run to both kinds of clients: its nodes by their ids, and again as `results`.

    The documents have the one, the server the other. A node that is called `results` or `error` is in `results` only.
    """
    nodes = {name: _show_dry_node(block, names.get(name, name)) for name, block in found.blocks.items()}
    failed = {} if found.state is RunState.SUCCESS else {"error": found.error.message if found.error else "failed"}
    return {**nodes, **failed, "results": nodes}


def names_of_nodes(pipeline: Pipeline) -> dict[str, str]:
    """Say what people call each node of a pipeline."""
    return {block.id: name_of(block) for block in pipeline.graph.blocks} if pipeline.graph else {}


def name_of(block: Block) -> str:
    """Say what people call a block: the first line of what is written above it, or its id."""
    return block.doc.strip().partition("\n")[0] or block.id


def durations_of(
    block_runs: Mapping[uuid.UUID, Iterable[BlockRun]], newest_first: Sequence[uuid.UUID]
) -> dict[str, Durations]:
    """Gather how long each node took where it succeeded."""
    found: dict[str, list[int]] = {}
    for run_id in newest_first:
        for block in block_runs.get(run_id, ()):
            if block.map_index is None and block.state is BlockState.SUCCESS:
                found.setdefault(block.block_id, []).append(block.duration_ms or 0)
    return {name: _in_figures(durations) for name, durations in found.items()}


def _in_figures(durations: list[int]) -> Durations:
    p95 = sorted(durations)[math.ceil(0.95 * len(durations)) - 1]
    return Durations(durations, sum(durations) // len(durations), p95)


def _show_node(run: Run, block: BlockRun) -> NodeRun:
    rows, took_ms = block.row_count or 0, block.duration_ms or 0
    return NodeRun(
        id=f"{run.id}:{block.block_id}",
        run_id=run.id,
        node_id=block.block_id,
        status=NODE_STATUS[block.state],
        row_count=rows,
        started_at=block.started_at,
        duration_ms=took_ms,
        error=_message(block.error),
        attempt=max(block.attempt - 1, 0),
        queue_ms=block.queue_ms or 0,
        rows_per_sec=round(1000 * rows / took_ms, 1) if took_ms else 0.0,
    )


def _message(error: msgspec.Raw) -> str | UnsetType:
    found = _decode_error(error)
    return UNSET if found is None else found.message


def _as_table(
    columns: list[str] | None, rows: list[dict[str, Any]] | None, value: Any
) -> tuple[list[str], list[dict[str, Any]]]:
    if columns is not None:
        return columns, rows or []
    return ([], []) if value is UNSET else (["value"], [{"value": value}])


def _show_dry_node(block: DryBlock, name: str) -> DryNode:
    columns, rows = _as_table(block.columns, block.rows, block.value)
    return DryNode(
        node_id=block.block_id,
        name=name,
        status=NODE_STATUS[block.state],
        columns=columns,
        rows=rows,
        error=block.error.message if block.error else UNSET,
    )


def _show_column(column: ColumnProfile) -> Column:
    return Column(
        name=column.name,
        type=column.type,
        null_count=column.null_count,
        null_pct=column.null_pct,
        unique_count=column.unique_count,
        unique_pct=column.unique_pct,
        min_val=UNSET if column.min is None else str(column.min),
        max_val=UNSET if column.max is None else str(column.max),
        mean_val=UNSET if column.mean is None else column.mean,
        is_numeric=column.is_numeric,
        sample_values=[str(value) for value in column.sample_values],
    )


def _show_drift(drift: Drift) -> dict[str, str]:
    return {name: value or "" for name, value in msgspec.structs.asdict(drift).items()}
