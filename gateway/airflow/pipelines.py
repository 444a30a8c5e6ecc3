"""What Airflow tells of DAGs and tasks, taken from our pipelines and blocks."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from gateway.airflow.words import OWNER, POOL
from schemas.overviews import RunTotals
from schemas.pipelines import Block, Pipeline
from schemas.schedules import Schedule


def blocks_of(pipeline: Pipeline) -> dict[str, Block]:
    """Find the blocks of a pipeline by their id, in their order."""
    return {block.id: block for block in pipeline.graph.blocks} if pipeline.graph else {}


def describe(pipeline: Pipeline) -> str | None:
    """Give what users call a pipeline's description, or else the first line of its documentation."""
    return pipeline.description or pipeline.doc.strip().partition("\n")[0] or None


def next_date(schedule: Schedule | None) -> dt.datetime | None:
    """Say when a schedule starts the next run."""
    return schedule.next_fire_at if schedule and not schedule.is_paused else None


def timetable(schedule: Schedule | None) -> str | None:
    """Give the cron expression of a schedule, or how long it waits."""
    if schedule is None:
        return None
    return schedule.cron or str(dt.timedelta(seconds=schedule.every_s or 0))


def describe_timetable(schedule: Schedule | None) -> str:
    """Say when a schedule starts runs."""
    if schedule is None:
        return "Never, external triggers only"
    return f"{timetable(schedule)} in {schedule.timezone}"


def params_of(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """List the variables that a pipeline declares: the default and the JSON Schema of each."""
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


def count_states(totals: RunTotals) -> list[dict[str, Any]]:
    """Count the runs of a pipeline in each of Airflow's states; what was cancelled has failed."""
    counts = {
        "queued": totals.queued,
        "running": totals.running,
        "success": totals.success,
        "failed": totals.failed + totals.cancelled,
    }
    return [{"state": state, "count": count} for state, count in counts.items()]


def time_delta(seconds: float) -> dict[str, Any]:
    """Write a duration as Airflow serialises Python's."""
    delta = dt.timedelta(seconds=seconds)
    return {"__type": "TimeDelta", "days": delta.days, "seconds": delta.seconds, "microseconds": delta.microseconds}


def show_task(block: Block, blocks: Mapping[str, Block], queue: str) -> dict[str, Any]:
    """Show a block; `blocks` are all of its pipeline, `queue` is where those run that do not say."""
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
        "execution_timeout": None if block.timeout is None else time_delta(block.timeout),
        "retry_delay": time_delta(block.retry_delay),
        "retry_exponential_backoff": True,
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
