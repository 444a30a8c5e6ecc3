"""Airflow's words for states, and for why a run exists."""

from enum import StrEnum

from schemas.states import BlockState, Origin, RunState

OWNER = "penstock"  # our pipelines belong to nobody
POOL = "default_pool"
UNMAPPED = -1
MOST_TASKS = 16  # Airflow's own default of max_active_tasks
NOTE_LIMIT = 1000  # characters
NOT_SUCCEEDED = ("failed", "upstream_failed")  # states of task instances that only_failed clears


class DagRunState(StrEnum):
    """States of a DAG run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


class NewState(StrEnum):
    """What a client may say of a run."""

    QUEUED = "queued"
    SUCCESS = "success"
    FAILED = "failed"


RUN_STATES = {
    RunState.QUEUED: DagRunState.QUEUED,
    RunState.RUNNING: DagRunState.RUNNING,
    RunState.SUCCESS: DagRunState.SUCCESS,
    RunState.FAILED: DagRunState.FAILED,
    RunState.CANCELLED: DagRunState.FAILED,
}
OUR_STATES = {state: tuple(ours for ours, theirs in RUN_STATES.items() if theirs is state) for state in DagRunState}
_RUN_TYPES = {Origin.TIME: "scheduled", Origin.BACKFILL: "backfill"}
_TASK_STATES = {
    BlockState.RUNNING: "running",
    BlockState.SUCCESS: "success",
    BlockState.FAILED: "failed",
    BlockState.SKIPPED: "skipped",
    BlockState.UPSTREAM_FAILED: "upstream_failed",
}


def run_type(origin: Origin) -> str:
    """Say why a run exists: scheduled, backfill, or else manual."""
    return _RUN_TYPES.get(origin, "manual")


def task_state(state: BlockState, attempt: int, *, has_started: bool) -> str | None:
    """Translate a state: None before a block's first try; what was cancelled has failed, or was never begun."""
    if state is BlockState.PENDING:
        return "up_for_retry" if attempt else None
    if state is BlockState.CANCELLED:
        return "failed" if has_started else "skipped"
    return _TASK_STATES[state]
