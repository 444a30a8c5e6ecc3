"""What Airflow 3 takes for a trigger, and what it says of one that it does not take."""

import datetime as dt

from gateway.airflow.triggers import check_run_id
from gateway.airflow.words import NOTE_LIMIT
from gateway.dialects.airflow_v2.errors import duplicate, not_served, value_rejected
from gateway.dialects.airflow_v2.fields import Fields
from gateway.errors import Refused
from schemas.errors import Conflict, PenstockError
from schemas.pipelines import Pipeline
from schemas.runs import RUN_KEY_LIMIT, Trigger

_RESERVED = ("backfill", "scheduled", "asset_triggered")
_LENIENCE = dt.timedelta(minutes=1)  # for a client whose clock is ahead of ours


def read_trigger(given: Fields, *, now: dt.datetime) -> tuple[Trigger, dt.datetime | None]:
    """Read the body of a trigger, and the moment that names its run if it has no `run_key`; raises Refused.

    What can start does: a `run_after` that lies ahead is refused, a time schedule does that.
    """
    run_id, note = given.text("dag_run_id"), given.text("note")
    conf, logical_date, run_after = given.mapping("conf"), given.moment("logical_date"), given.moment("run_after")
    bounds = given.moment("data_interval_start"), given.moment("data_interval_end")
    partition_key = given.text("partition_key")
    if (bounds[0] is None) != (bounds[1] is None):
        given.wrong_together(
            "Either both data_interval_start and data_interval_end must be provided or both must be None"
        )
    given.refuse_wrong()
    if partition_key is not None:
        raise not_served("A partition_key")
    if note is not None and len(note) > NOTE_LIMIT:
        raise value_rejected(f"note has {len(note)} characters; there may be {NOTE_LIMIT}")
    if run_id:
        check_run_id(run_id, _RESERVED)
        if len(run_id) > RUN_KEY_LIMIT:
            raise value_rejected(f"dag_run_id has {len(run_id)} characters; there may be {RUN_KEY_LIMIT}")
    if run_after is not None and run_after > now + _LENIENCE:
        raise not_served("A run_after that lies ahead")
    trigger = Trigger(variables=conf, logical_date=logical_date, run_key=run_id or None, note=note or None)
    return trigger, run_after


def of_conflict(error: Conflict, pipeline: Pipeline, trigger: Trigger) -> PenstockError:
    """Say in Airflow's words why there is no run."""
    if "run_id" in error.extra:
        return duplicate(f"Dag {pipeline.id} has a run {trigger.run_key!r} already: {error.extra['run_id']}.")
    if "same_date" in error.extra:
        return duplicate(f"Dag {pipeline.id} has a run of {trigger.logical_date} already: {error.extra['same_date']}.")
    if pipeline.graph is None:
        return Refused(f"Dag with dag_id: '{pipeline.id}' has import errors and cannot be triggered")
    return error
