"""A DAG as Airflow lists it (`GET /api/v1/dags`, `GET /api/v2/dags`, `airflow dags list -o json`), as our schedule.

Only what such a list says is used: no DAG file is read or executed.
"""

from collections.abc import Mapping
from typing import Any

from gateway.moving import Mapped

_PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually")
_BY_CALLS = (None, "", "None", "null", "Never, external triggers only")
_PAUSED = ("True", "true")


def dags_of(document: Any) -> list[dict[str, Any]] | None:
    """Find the DAGs in what the API or the command line gave; None when it is neither."""
    found = document.get("dags") if isinstance(document, dict) else document
    if not isinstance(found, list) or not all(isinstance(each, dict) and each.get("dag_id") for each in found):
        return None
    return found


def map_dag(dag: Mapping[str, Any]) -> Mapped:
    """Translate when a DAG fires, and whether it is paused; catch-up is off: nothing of the past is run again."""
    interval = dag.get("schedule_interval", dag.get("timetable_summary", dag.get("schedule")))
    paused = dag.get("is_paused", dag.get("paused", True))
    fields: dict[str, Any] = {"is_paused": paused is True or paused in _PAUSED}
    if isinstance(interval, dict):
        return _map_typed(interval, fields)
    if interval in _BY_CALLS:
        return Mapped(obstacles=("it has no clock: calls of the API start the pipeline as they did",))
    if interval in _PRESETS or (isinstance(interval, str) and len(interval.split()) == 5):
        return Mapped(fields | {"cron": interval}, left_out=_zone(dag))
    return Mapped(obstacles=(f"its timetable {interval!r} is neither a cron nor an interval",))


def _map_typed(interval: Mapping[str, Any], fields: dict[str, Any]) -> Mapped:
    if interval.get("__type") == "CronExpression" and isinstance(cron := interval.get("value"), str):
        return Mapped(fields | {"cron": cron}, left_out=_zone({}))
    days, seconds = interval.get("days", 0), interval.get("seconds", 0)
    if interval.get("__type") == "TimeDelta" and isinstance(days, int) and isinstance(seconds, int):
        return Mapped(fields | {"every_s": days * 86_400 + seconds})
    return Mapped(obstacles=(f"its schedule is a {interval.get('__type')}, which has nothing like it here",))


def _zone(dag: Mapping[str, Any]) -> tuple[str, ...]:
    """The list does not say in which zone a cron is meant, unless the timetable's description does."""
    description = str(dag.get("timetable_description") or "")
    return () if "UTC" in description else ("timezone: the list does not say it; it is taken for UTC",)
