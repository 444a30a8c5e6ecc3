"""A trigger as Mage describes it, in its API and in triggers.yaml, in the words of our schedules."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from gateway.moving import Mapped

INTERVALS = ("@hourly", "@daily", "@weekly", "@monthly")
_NO_CLOCK = {
    "@once": "fires once, when it is switched on: start the pipeline by hand or with a token instead",
    "@always_on": "keeps a run going for ever: take an interval, such as every minute, with overlap skip",
}
_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "allow_blocks_to_fail": (None, False),
    "create_initial_pipeline_run": (None, False),
    "landing_time_enabled": (None, False),
    "timeout_status": (None, "", "failed"),
    "invalid_schedule_interval": (None, False),
}


def map_trigger(given: Mapping[str, Any], *, is_timed: bool) -> Mapped:
    """Translate those parts of a trigger that are given; what is missing stays as it is."""
    fields: dict[str, Any] = {}
    obstacles: list[str] = []
    left_out: list[str] = []
    for name, value in given.items():
        if name == "schedule_interval":
            _map_interval(value, is_timed, fields, obstacles)
        elif name == "settings":
            left_out += _map_settings(value, is_timed, fields) if isinstance(value, Mapping) else _not_settings(value)
        elif name == "start_time" and is_timed:
            _map_start(value, fields, obstacles)
        elif name == "status":
            fields["is_paused"] = value != "active"
        elif name == "variables":
            fields["variables"] = value or {}
        elif name == "sla":
            fields["sla_s"] = value or None
    return Mapped(fields, tuple(obstacles), tuple(left_out))


def _map_interval(value: Any, is_timed: bool, fields: dict[str, Any], obstacles: list[str]) -> None:
    if not is_timed:
        return
    if not isinstance(value, str | None):
        obstacles.append("schedule_interval: it is not a text")
        return
    if value in _NO_CLOCK:
        obstacles.append(f"schedule_interval: {value} {_NO_CLOCK[value]}")
    fields["cron"] = value or None


def _map_start(value: Any, fields: dict[str, Any], obstacles: list[str]) -> None:
    try:
        found = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
        fields["start_at"] = None if found is None else _in_utc(found)
    except (ValueError, AttributeError, OverflowError):
        obstacles.append("start_time: it is not a time such as 2026-01-31 12:00:00")


def _in_utc(when: dt.datetime) -> dt.datetime:
    return (when if when.tzinfo else when.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)


def _not_settings(value: Any) -> list[str]:
    return [] if value is None else ["settings: they are not an object"]


def _map_settings(settings: Mapping[str, Any], is_timed: bool, fields: dict[str, Any]) -> list[str]:
    """Translate all settings: those that are missing have their defaults."""
    left_out = []
    is_skipping = bool(settings.get("skip_if_previous_running"))
    if is_timed:
        fields["overlap"] = "skip" if is_skipping else "allow"
    elif is_skipping:
        left_out.append("settings.skip_if_previous_running: only the clock skips; max_active_runs queues")
    fields["max_active_runs"] = settings.get("pipeline_run_limit") or None
    fields["run_timeout_s"] = settings.get("timeout") or None
    for name, value in settings.items():
        if name in ("skip_if_previous_running", "pipeline_run_limit", "timeout"):
            continue
        if name not in _DEFAULTS or value not in _DEFAULTS[name]:
            left_out.append(f"settings.{name}: there is nothing like it here")
    return left_out
