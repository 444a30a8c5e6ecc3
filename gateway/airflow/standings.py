"""Where the blocks of a run stand, as Airflow's task instances, and their tries."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gateway.airflow.words import UNMAPPED, task_state
from gateway.core import Core
from schemas.pages import Page
from schemas.pipelines import Block
from schemas.runs import BlockRun, Run

T = TypeVar("T", bound="Standing")
_MOST_TRIES = 1000


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A block of a run, or one item of a mapped block; `duration` in seconds, None as long as it executes."""

    task_id: str
    map_index: int
    start_date: dt.datetime | None
    end_date: dt.datetime | None
    duration: float | None
    state: str | None
    try_number: int
    max_tries: int
    queue: str
    queued_when: dt.datetime | None


def standings(run: Run, blocks: Mapping[str, Block]) -> list[Standing]:
    """List the blocks of a run in their order; of a mapped one that has begun only its items."""
    mapped = {block.block_id for block in run.block_runs if block.map_index is not None}
    return [
        _standing(run, block, blocks.get(block.block_id))
        for block in run.block_runs
        if block.map_index is not None or block.block_id not in mapped
    ]


async def tries(core: Core, run: Run, standing: T) -> list[T]:
    """List all tries of a task instance, the first one first."""
    index = None if standing.map_index == UNMAPPED else standing.map_index
    attempts = await core.runs.list_attempts(str(run.id), standing.task_id, Page(_MOST_TRIES, None), map_index=index)
    return [
        msgspec.structs.replace(
            standing,
            try_number=attempt.attempt,
            start_date=attempt.started_at,
            end_date=attempt.finished_at,
            duration=seconds(attempt.started_at, attempt.finished_at),
            state=task_state(attempt.state, attempt.attempt, has_started=True),
        )
        for attempt in attempts
    ]


def sorted_by(attributes: Sequence[str], tasks: Sequence[T]) -> list[T]:
    """Sort by several attributes, `-` for backwards; those that have no such value come last."""
    found = list(tasks)
    for attribute in reversed(attributes):
        name, is_descending = attribute.lstrip("-"), attribute.startswith("-")
        found.sort(key=_value_of(name), reverse=is_descending)
        found.sort(key=lambda task, name=name: getattr(task, name) is None)  # type: ignore[misc]
    return found


def seconds(start: dt.datetime | None, end: dt.datetime | None) -> float | None:
    """Measure how long something took, if it is over."""
    return None if start is None or end is None else (end - start).total_seconds()


def _value_of(name: str) -> Callable[[Any], Any]:
    return lambda task: ("" if getattr(task, name) is None else getattr(task, name)) if name != "id" else str(task.id)


def _standing(run: Run, block_run: BlockRun, block: Block | None) -> Standing:
    started_at = block_run.started_at
    return Standing(
        task_id=block_run.block_id,
        map_index=UNMAPPED if block_run.map_index is None else block_run.map_index,
        start_date=started_at,
        end_date=block_run.finished_at,
        duration=seconds(started_at, block_run.finished_at),
        state=task_state(block_run.state, block_run.attempt, has_started=started_at is not None),
        try_number=block_run.attempt,
        max_tries=block.retries if block else 0,
        queue=(block and block.queue) or run.queue,
        queued_when=_queued_when(block_run),
    )


def _queued_when(block_run: BlockRun) -> dt.datetime | None:
    if block_run.started_at is None or block_run.queue_ms is None:
        return None
    return block_run.started_at - dt.timedelta(milliseconds=block_run.queue_ms)
