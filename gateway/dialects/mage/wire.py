"""Mage's structures, made out of ours, and ours out of Mage's.

Its ids are integers: a run's and a schedule's are our numbers. Its times are Python's `str(datetime)` in UTC. Lists and
single objects have the same fields here; in Mage a list tells more.
"""

import datetime as dt
import uuid
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.dialects.mage.errors import invalid
from gateway.incoming import Unwrapped
from schemas.errors import Malformed
from schemas.pipelines import Graph
from schemas.runs import BlockRun, Run
from schemas.schedules import ScheduleName
from schemas.states import BlockState, RunState, ScheduleKind

HIDDEN_TOKEN = "[API_TOKEN_PLACEHOLDER]"  # noqa: S105 - what Mage shows with HIDE_API_TRIGGER_TOKEN=true
EXECUTOR = "local_python"
RUN_STATUS = {
    RunState.QUEUED: "initial",
    RunState.RUNNING: "running",
    RunState.SUCCESS: "completed",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
}
RUN_STATES = {status: state for state, status in RUN_STATUS.items()}
BLOCK_STATUS = {
    BlockState.PENDING: "initial",
    BlockState.RUNNING: "running",
    BlockState.SUCCESS: "completed",
    BlockState.FAILED: "failed",
    BlockState.CANCELLED: "cancelled",
    BlockState.SKIPPED: "condition_failed",
    BlockState.UPSTREAM_FAILED: "upstream_failed",
}
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_EMPTY = msgspec.Raw(b"{}")


class PipelineRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run, as it is shown to who started or changed it."""

    pipeline_schedule_id: int | None
    pipeline_uuid: str
    execution_date: str
    status: str
    started_at: str | None
    completed_at: str | None
    variables: dict[str, msgspec.Raw]
    passed_sla: bool
    event_variables: msgspec.Raw
    metrics: None = None
    backfill_id: int | None
    executor_type: str = EXECUTOR
    id: int
    created_at: str
    updated_at: str


class ShownBlockRun(msgspec.Struct, frozen=True, kw_only=True):
    """A block of a run, or one item of a mapped one."""

    block_uuid: str
    completed_at: str | None
    created_at: str
    id: int
    metrics: None = None
    pipeline_run_id: int
    pipeline_schedule_id: int | None
    pipeline_schedule_name: str | None
    started_at: str | None
    status: str
    updated_at: str


class DetailedRun(PipelineRun, frozen=True, kw_only=True):
    """A run, as it is read by itself or in a list."""

    block_runs: list[ShownBlockRun]
    block_runs_count: int
    completed_block_runs_count: int
    pipeline_schedule_name: str | None
    pipeline_schedule_token: str | None
    pipeline_schedule_type: str | None
    pipeline_tags: list[str] = []
    pipeline_type: str = "python"
    repo_path: None = None


class Metadata(msgspec.Struct, frozen=True):
    """How many there are, and whether there are more after these."""

    count: int
    next: bool


class RunChange(msgspec.Struct, frozen=True):
    """What PUT does to a run; all else that a run has is ignored, so that a client may send back what it read."""

    status: str | None = None
    pipeline_run_action: str | None = None
    from_block_uuid: str | None = None


class ChangedRun(msgspec.Struct, frozen=True):
    """The body of PUT on a run."""

    pipeline_run: RunChange


class BlockToRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /api/runs` is asked to run."""

    pipeline_uuid: str | None = None
    block_uuid: str | None = None
    variables: dict[str, Any] = {}


class Names(msgspec.Struct, frozen=True):
    """What integer or name stands for an id of ours that a run holds."""

    schedules: Mapping[uuid.UUID, ScheduleName] = {}
    backfills: Mapping[uuid.UUID, int] = {}


def unwrap_trigger(body: bytes) -> Unwrapped:
    """Read `pipeline_run.variables` as variables, and every other top-level key as `event_variables`; raises Malformed.

    A body that is no object, or has no `pipeline_run`, becomes `event_variables` whole.
    """
    members = _members(body)
    if members is None or "pipeline_run" not in members:
        return Unwrapped()
    given = _object(members.pop("pipeline_run"), "pipeline_run")
    return Unwrapped(_only_variables(given, "pipeline_run"), msgspec.json.encode(members))


def unwrap_create(body: bytes) -> Unwrapped:
    """Read `pipeline_run.variables` and `pipeline_run.event_variables`, of which only the last may be anything."""
    given = _object((_members(body) or {}).get("pipeline_run", _EMPTY), "pipeline_run")
    payload = given.pop("event_variables", None)
    return Unwrapped(_only_variables(given, "pipeline_run"), b"null" if payload is None else bytes(payload))


def unwrap_block(body: bytes) -> Unwrapped:
    """Read `run.variables`; there is no `event_variables`."""
    return Unwrapped(read_block(body).variables, b"null")


def read_block(body: bytes) -> BlockToRun:
    """Read what `POST /api/runs` is asked to run; raises Malformed."""
    try:
        return msgspec.json.decode(body, type=dict[str, BlockToRun]).get("run", BlockToRun())
    except _UNREADABLE as error:
        raise Malformed(f"The body is not {{'run': {{'pipeline_uuid', 'block_uuid', 'variables'}}}}: {error}") from None


def without_key(body: bytes) -> bytes:
    """Leave out of a request what is not the run's: an API key must not be stored with it."""
    members = _members(body) or {}
    return msgspec.json.encode({"pipeline_run": members.get("pipeline_run", _EMPTY)})


def runs_last(graph: Graph | None, block_id: str) -> bool:
    """Say whether to run this block is to run the pipeline: each other block comes before it."""
    upstream = {block.id: block.upstream for block in graph.blocks} if graph else {}
    if block_id not in upstream:
        raise invalid(f"The trigger's pipeline has no block {block_id[:200]!r}.")
    reached, waiting = {block_id}, [block_id]
    while waiting:
        new = set(upstream[waiting.pop()]) - reached
        reached |= new
        waiting += new
    return reached == upstream.keys()


def show_run(run: Run, names: Names) -> PipelineRun:
    """Show a run to who started or changed it."""
    return PipelineRun(**_base(run, names))


def show_detailed(run: Run, blocks: Sequence[BlockRun], names: Names) -> DetailedRun:
    """Show a run with those of its blocks."""
    schedule = _schedule(run, names)
    return DetailedRun(
        **_base(run, names),
        block_runs=[_show_block(block, run, schedule) for block in blocks],
        block_runs_count=len(blocks),
        completed_block_runs_count=sum(block.state is BlockState.SUCCESS for block in blocks),
        pipeline_schedule_name=schedule.name if schedule else None,
        pipeline_schedule_token=HIDDEN_TOKEN if schedule and schedule.kind is ScheduleKind.API else None,
        pipeline_schedule_type=schedule.kind.value if schedule else None,
    )


def moment_or_none(when: dt.datetime | None) -> str | None:
    """Write a time as Mage does, where there may be none."""
    return None if when is None else moment(when)


def moment(when: dt.datetime) -> str:
    """Write a time as Mage does."""
    return when.astimezone(dt.UTC).isoformat(" ", "microseconds")


def _base(run: Run, names: Names) -> dict[str, Any]:
    schedule = _schedule(run, names)
    executed_at = (run.logical_date or run.created_at).astimezone(dt.UTC)
    lane = schedule.number if schedule else run.pipeline_id
    partition = f"{lane}/{executed_at:%Y%m%dT%H%M%S_%f}"
    variables = msgspec.json.decode(run.variables, type=dict[str, msgspec.Raw])
    return {
        "pipeline_schedule_id": schedule.number if schedule else None,
        "pipeline_uuid": run.pipeline_id,
        "execution_date": moment(executed_at),
        "status": RUN_STATUS[run.state],
        "started_at": moment_or_none(run.started_at),
        "completed_at": moment_or_none(run.finished_at) if run.state is RunState.SUCCESS else None,
        "variables": variables | {"execution_partition": msgspec.Raw(msgspec.json.encode(partition))},
        "passed_sla": run.passed_sla,
        "event_variables": run.event_variables,
        "backfill_id": names.backfills.get(run.backfill_id) if run.backfill_id else None,
        "id": run.number,
        "created_at": moment(run.created_at),
        "updated_at": moment(run.finished_at or run.started_at or run.created_at),
    }


def _schedule(run: Run, names: Names) -> ScheduleName | None:
    return names.schedules.get(run.schedule_id) if run.schedule_id else None


def _show_block(block: BlockRun, run: Run, schedule: ScheduleName | None) -> ShownBlockRun:
    item = "" if block.map_index is None else f":{block.map_index}"
    return ShownBlockRun(
        block_uuid=f"{block.block_id}{item}",
        completed_at=moment_or_none(block.finished_at) if block.state is BlockState.SUCCESS else None,
        created_at=moment(run.created_at),
        id=zlib.crc32(f"{run.id}/{block.block_id}{item}".encode()),
        pipeline_run_id=run.number,
        pipeline_schedule_id=schedule.number if schedule else None,
        pipeline_schedule_name=schedule.name if schedule else None,
        started_at=moment_or_none(block.started_at),
        status=BLOCK_STATUS[block.state],
        updated_at=moment(block.finished_at or block.started_at or run.created_at),
    )


def _members(body: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except _UNREADABLE:
        return None


def _object(raw: msgspec.Raw, what: str) -> dict[str, msgspec.Raw]:
    found = _members(bytes(raw))
    if found is None:
        raise Malformed(f"{what}: it is not a JSON object.")
    return found


def _only_variables(given: dict[str, msgspec.Raw], what: str) -> dict[str, Any]:
    """Mage writes all that it finds into the run's row, be it `status` or `id`; a caller chooses variables only."""
    if other := sorted(given.keys() - {"variables"}):
        raise Malformed(f"{what}: callers set variables and nothing else, not {', '.join(other)[:200]}.")
    try:
        return msgspec.json.decode(given.get("variables", _EMPTY), type=dict[str, Any])
    except _UNREADABLE as error:
        raise Malformed(f"{what}.variables: it is not a JSON object: {error}") from None
