"""What Airflow 2 takes for a trigger, and what it says of one that it does not take."""

import datetime as dt

from gateway.airflow.triggers import check_run_id
from gateway.airflow.words import NOTE_LIMIT
from gateway.core import Core
from gateway.dialects.airflow_v1 import dates
from gateway.dialects.airflow_v1.errors import of_field, titled
from gateway.dialects.airflow_v1.forms import Form
from gateway.errors import Refused
from schemas.errors import Conflict, NotFound, PenstockError
from schemas.pipelines import Pipeline
from schemas.runs import RUN_KEY_LIMIT, Trigger

NAMES = ("dag_run_id", "logical_date", "execution_date", "data_interval_start", "data_interval_end", "conf", "note")
READ_ONLY = ("dag_id", "start_date", "end_date", "last_scheduling_decision", "run_type", "state", "external_trigger")
_RESERVED = ("backfill", "scheduled", "dataset_triggered")
_YEARS = (2, 9998)  # the first and the last moment of all are infinite to Postgres
_HALF_AN_INTERVAL = "Both 'data_interval_start' and 'data_interval_end' must be specified together"


def read_trigger(form: Form) -> Trigger:
    """Read the body of a trigger, whose run is named by its logical date if it has no id; raises Refused.

    Without a logical date it has no `run_key`, either, unless that is given.
    """
    conf, note, run_id = form.mapping("conf"), form.text("note", most=NOTE_LIMIT), _read_run_id(form)
    date = _read_date(form)
    start, end = (form.moment(f"data_interval_{bound}", may_be_null=True) for bound in ("start", "end"))
    if (start is None) != (end is None):
        raise of_field("_schema", _HALF_AN_INTERVAL)
    if run_id is None and date is not None:
        run_id = f"manual__{dates.write(date)}"
    return Trigger(variables=conf, logical_date=date, run_key=run_id, note=note or None)


async def of_conflict(core: Core, error: Conflict, pipeline: Pipeline, trigger: Trigger) -> PenstockError:
    """Say in Airflow's words why there is no run; the date counts before the id."""
    if "run_id" not in error.extra and "same_date" not in error.extra:
        return error
    what = f"DAGRun ID: '{trigger.run_key}'"
    if trigger.logical_date is not None and await _is_of_date(core, error, trigger.logical_date):
        what = f"DAGRun logical date: '{trigger.logical_date.isoformat(sep=' ')}'"
    return Refused(f"DAGRun with DAG ID: '{pipeline.id}' and {what} already exists", status=409)


async def _is_of_date(core: Core, error: Conflict, date: dt.datetime) -> bool:
    if "same_date" in error.extra:
        return True
    try:
        return (await core.runs.row(str(error.extra["run_id"]))).logical_date == date
    except NotFound:
        return False


def _read_run_id(form: Form) -> str | None:
    if form.is_null("dag_run_id"):
        raise of_field("dag_run_id", "Field may not be null.")
    run_id = form.text("dag_run_id", most=RUN_KEY_LIMIT)
    if run_id:
        check_run_id(run_id, _RESERVED)
    return run_id or None


def _read_date(form: Form) -> dt.datetime | None:
    """Read a date, which has two names: both may be given if they say the same."""
    found = {name: form.text(name) for name in ("logical_date", "execution_date") if not form.is_null(name)}
    if None not in found.values() and len(set(found.values())) > 1:
        detail = f"{found['logical_date']!r} != {found['execution_date']!r}"
        raise titled("logical_date conflicts with execution_date", detail)
    date = form.moment("logical_date") or form.moment("execution_date")
    if date is not None and not _YEARS[0] <= date.year <= _YEARS[1]:
        raise dates.incorrect(f"A logical date lies between the years {_YEARS[0]} and {_YEARS[1]}")
    return date
