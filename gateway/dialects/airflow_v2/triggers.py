"""What Airflow 3 takes for a trigger, and what it says of one that it does not take."""

import datetime as dt
import pprint
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from gateway import params
from gateway.dialects.airflow_v2.errors import duplicate, not_served, value_rejected
from gateway.dialects.airflow_v2.fields import NOTE_LIMIT, Fields
from gateway.dialects.airflow_v2.queries import DagRunType
from gateway.errors import Refused
from schemas.errors import Conflict, PenstockError
from schemas.pipelines import Pipeline
from schemas.runs import RUN_KEY_LIMIT, Trigger

_ALLOWED = re.compile(r"^[A-Za-z0-9_.~:+-]+$")
_PATTERNS = (
    r"'^[A-Za-z0-9_.~:+-]+$' or "
    r"'^(?:manual|scheduled|asset_triggered)__(?:\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\+00:00)$'"
)
_WIDTH = 72
_LENIENCE = dt.timedelta(minutes=1)  # for a client whose clock is ahead of ours


def read_trigger(given: Fields, *, now: dt.datetime) -> Trigger:
    """Read the body of a trigger, whose run is named by its moment if it has no `run_key`; raises Refused.

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
        _check_run_id(run_id)
    if run_after is not None and run_after > now + _LENIENCE:
        raise not_served("A run_after that lies ahead")
    return Trigger(variables=conf, logical_date=logical_date, run_key=run_id or None, note=note or None)


def of_conflict(error: Conflict, pipeline: Pipeline, trigger: Trigger) -> PenstockError:
    """Say in Airflow's words why there is no run."""
    if "run_id" in error.extra:
        return duplicate(f"Dag {pipeline.id} has a run {trigger.run_key!r} already: {error.extra['run_id']}.")
    if "same_date" in error.extra:
        return duplicate(f"Dag {pipeline.id} has a run of {trigger.logical_date} already: {error.extra['same_date']}.")
    if pipeline.graph is None:
        return Refused(f"Dag with dag_id: '{pipeline.id}' has import errors and cannot be triggered")
    return error


def of_wrong_params(variables: Mapping[str, Any], pipeline: Pipeline) -> Refused | None:
    """Say in Airflow's words what is wrong with a conf, None when nothing is."""
    fault = params.find_fault(variables, pipeline)
    if fault is None:
        return None
    message = f"Invalid input for param {fault.name}: {fault.message}".replace('"', "'")  # as Python writes texts
    if fault.schema is not None:
        schema, given = _block(fault.schema), _block(fault.given)
        message += f"\n\nFailed validating '{fault.rule}' in schema:\n{schema}\n\nOn instance:\n{given}"
    return Refused(message)


def _block(value: Any) -> str:
    return textwrap.indent(pprint.pformat(value, width=_WIDTH, sort_dicts=False), "    ")


def _check_run_id(run_id: str) -> None:
    if not _ALLOWED.fullmatch(run_id):
        raise Refused(f"The run_id provided {run_id!r} does not match regex pattern {_PATTERNS}")
    kind = next((kind for kind in DagRunType if run_id.startswith(f"{kind}__")), DagRunType.MANUAL)
    if kind is not DagRunType.MANUAL:
        raise Refused(f"A manual DAG run cannot use ID {run_id!r} since it is reserved for {kind} runs")
    if len(run_id) > RUN_KEY_LIMIT:
        raise value_rejected(f"dag_run_id has {len(run_id)} characters; there may be {RUN_KEY_LIMIT}")
