"""Maestro's structures, made out of ours.

Its ids are UUIDs, taken with hyphens or underscores and always answered with underscores. Its pipelines have jobs (our
blocks), at most one cron (our oldest schedule of kind time), and a number, which ours do not: it is made of the id.
"""

import datetime as dt
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from schemas.pipelines import Block, Description, Name, Pipeline
from schemas.runs import BlockRun, Run, RunError, RunRow
from schemas.schedules import Schedule
from schemas.states import BlockState, RunState

NOBODY = "penstock"  # we have no customers, and pipelines belong to nobody
NEVER_RAN = "CREATED"
_UUID = re.compile(r"[0-9a-f]{8}([-_])[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}", re.IGNORECASE)
RUN_STATUS = {
    RunState.QUEUED: "RUNNING",
    RunState.RUNNING: "RUNNING",
    RunState.SUCCESS: "SUCCESS",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "FAILED",
}
JOB_STATUS = {
    BlockState.PENDING: "PENDING",
    BlockState.RUNNING: "RUNNING",
    BlockState.SUCCESS: "SUCCESS",
    BlockState.SKIPPED: "SUCCESS",
    BlockState.FAILED: "FAILED",
    BlockState.CANCELLED: "FAILED",
    BlockState.UPSTREAM_FAILED: "FAILED",
}
_decode_error = msgspec.json.Decoder[RunError | None](RunError | None).decode


class Named(msgspec.Struct, frozen=True):
    """The body that names a pipeline; `customer_id` and whatever else it holds is not ours to believe."""

    pipeline_id: str | None = None


class Patch(msgspec.Struct, frozen=True):
    """The body of PATCH, as far as it changes something; `cron` null ends the schedule."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    cron: str | UnsetType | None = UNSET


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was done to which pipeline, and how the run that came of it can be followed."""

    message: str
    pipeline_id: str
    run_id: str | None = None


class Succeeded(msgspec.Struct, frozen=True):
    """The envelope of most answers."""

    data: Any
    status: bool = True


class ListedJob(msgspec.Struct, frozen=True):
    """A block, as the list of pipelines shows it."""

    id: int
    job_id: str
    job_status: str
    input: dict[str, str | None]
    output: dict[str, str | None]


class ListedPipeline(msgspec.Struct, frozen=True):
    """A pipeline in the list of all."""

    id: int
    pipeline_id: str
    name: str
    description: str
    cron: str | None
    last_status: str
    jobs: list[ListedJob]
    customer_id: str = NOBODY
    user_id: str = NOBODY


class Job(msgspec.Struct, frozen=True):
    """A block, as its pipeline shows it."""

    job_id: str
    job_name: str
    input: dict[str, str | None]
    output: dict[str, str | None]


class ShownPipeline(msgspec.Struct, frozen=True):
    """One pipeline by itself; `status` is active, paused or error."""

    id: str
    name: str
    description: str
    cron: str | None
    status: str
    created_at: str
    updated_at: str
    jobs: list[Job]
    customer_id: str = NOBODY


class PipelineRun(msgspec.Struct, frozen=True):
    """One run."""

    id: int
    pipeline_run_id: str
    pipeline_id: str
    last_status: str
    created_at: str
    updated_at: str
    trace: str | None


def underscored(given: str) -> str:
    """Write a UUID with underscores and in lower case; an id that is none stays as it is."""
    return given.lower().replace("-", "_") if _UUID.fullmatch(given) else given


def spellings(given: str) -> list[str]:
    """List the ids that may be meant, the given one first; each exists with hyphens and with underscores."""
    plain = underscored(given)
    return list(dict.fromkeys((given, plain.replace("-", "_"), plain.replace("_", "-"))))


def hyphenated(given: str) -> str:
    """Write a UUID as ours are written; any other text stays as it is."""
    return given.replace("_", "-") if _UUID.fullmatch(given) else given


def list_pipeline(
    pipeline: Pipeline, schedule: Schedule | None, newest: RunRow | None, begun: Iterable[BlockRun]
) -> ListedPipeline:
    """Show a pipeline in the list of all; the status of a job is that of its block in the newest run."""
    states = {block.block_id: block.state for block in begun if block.map_index is None}
    shown_id = underscored(pipeline.id)
    return ListedPipeline(
        id=_number(pipeline.id),
        pipeline_id=shown_id,
        name=pipeline.name or pipeline.id,
        description=pipeline.doc if pipeline.description is None else pipeline.description,
        cron=schedule.cron if schedule else None,
        last_status=RUN_STATUS[newest.state] if newest else NEVER_RAN,
        jobs=[
            ListedJob(
                id=_number(f"{pipeline.id}_{place}"),
                job_id=f"{shown_id}_{place}",
                job_status=_job_status(states, block),
                input=_input(block),
                output=_output(block),
            )
            for place, block in enumerate(_blocks(pipeline))
        ],
    )


def show_pipeline(pipeline: Pipeline, schedule: Schedule | None) -> ShownPipeline:
    """Show one pipeline by itself."""
    shown_id = underscored(pipeline.id)
    return ShownPipeline(
        id=shown_id,
        name=pipeline.name or pipeline.id,
        description=pipeline.doc if pipeline.description is None else pipeline.description,
        cron=schedule.cron if schedule else None,
        status="error" if pipeline.error else "paused" if pipeline.is_paused else "active",
        created_at=_moment(pipeline.created_at, "seconds"),
        updated_at=_moment(pipeline.updated_at, "seconds"),
        jobs=[
            Job(job_id=f"{shown_id}_{place}", job_name=block.id, input=_input(block), output=_output(block))
            for place, block in enumerate(_blocks(pipeline))
        ],
    )


def show_run(run: Run) -> PipelineRun:
    """Show a run. What waits is RUNNING and what was cancelled FAILED, for Maestro has no words for them."""
    return PipelineRun(
        id=run.number,
        pipeline_run_id=underscored(str(run.id)),
        pipeline_id=underscored(run.pipeline_id),
        last_status=RUN_STATUS[run.state],
        created_at=_moment(run.created_at, "milliseconds"),
        updated_at=_moment(run.finished_at or run.started_at or run.created_at, "milliseconds"),
        trace="The run was cancelled." if run.state is RunState.CANCELLED else _trace(run.error),
    )


def _blocks(pipeline: Pipeline) -> tuple[Block, ...]:
    return pipeline.graph.blocks if pipeline.graph else ()


def _job_status(states: Mapping[str, BlockState], block: Block) -> str:
    return JOB_STATUS[states.get(block.id, BlockState.PENDING)]


def _input(block: Block) -> dict[str, str | None]:
    return {"connector": NOBODY, "plugin": block.id, "table_name": ", ".join(block.reads) or None}


def _output(block: Block) -> dict[str, str | None]:
    return {"plugin": NOBODY, "table_name": ", ".join(block.writes) or None}


def _trace(error: msgspec.Raw) -> str | None:
    found = _decode_error(error)
    return (found.traceback or found.message) if found else None


def _number(text: str) -> int:
    return zlib.crc32(text.encode())


def _moment(moment: dt.datetime, precision: str) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec=precision).replace("+00:00", "Z")
