"""Query strings: paging, orders and ranges, as Airflow's lists take them, and as ours do."""

import base64
import binascii
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from gateway.dialects.airflow_v2.errors import disallowed_order, fault, not_served, refuse_value, unprocessable
from gateway.errors import Refused
from gateway.parameters import Parameters
from schemas.pages import Span
from schemas.runs import RunFilter, RunOrder, Sorting
from schemas.states import Origin, RunState

E = TypeVar("E", bound=StrEnum)
DEFAULT_LIMIT = 50
LARGEST_LIMIT = 100
LONGEST_NUMBER = 10  # digits, of which Postgres' integers have no more
Moment = Callable[[str], dt.datetime | None]
_LAST = dt.datetime(9999, 12, 1, tzinfo=dt.UTC)
_INSTANT = dt.timedelta.resolution
_MILLISECOND = dt.timedelta(milliseconds=1)  # as far as the ids of runs tell when they were made
_RANGES = {
    "run_after": "created",
    "start_date": "started",
    "end_date": "finished",
    "logical_date": "logical_date",
    "updated_at": "changed",
}
_ORDERS = {
    "id": RunOrder.CREATED,
    "run_after": RunOrder.CREATED,
    "state": RunOrder.STATE,
    "dag_id": RunOrder.PIPELINE,
    "run_id": RunOrder.KEY,
    "dag_run_id": RunOrder.KEY,
    "logical_date": RunOrder.LOGICAL_DATE,
    "start_date": RunOrder.STARTED,
    "end_date": RunOrder.FINISHED,
    "updated_at": RunOrder.CHANGED,
    "duration": RunOrder.DURATION,
}
NOT_SERVED = (
    "conf_contains",
    "dag_version",
    "bundle_version",
    *(f"duration_{bound}" for bound in ("gte", "gt", "lte", "lt")),
    *(f"partition_date_{bound}" for bound in ("gte", "lte")),
    *(
        f"{what}_{pattern}"
        for what in ("triggering_user_name", "partition_key")
        for pattern in ("pattern", "prefix_pattern")
    ),
    "consuming_asset_pattern",
)


class DagRunState(StrEnum):
    """States of a DAG run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


class DagRunType(StrEnum):
    """Why a DAG run exists."""

    BACKFILL = "backfill"
    SCHEDULED = "scheduled"
    MANUAL = "manual"
    ASSET_TRIGGERED = "asset_triggered"


_STATES = {
    DagRunState.QUEUED: (RunState.QUEUED,),
    DagRunState.RUNNING: (RunState.RUNNING,),
    DagRunState.SUCCESS: (RunState.SUCCESS,),
    DagRunState.FAILED: (RunState.FAILED, RunState.CANCELLED),
}
_ORIGINS: Mapping[DagRunType, tuple[Origin, ...]] = {
    DagRunType.BACKFILL: (Origin.BACKFILL,),
    DagRunType.SCHEDULED: (Origin.TIME,),
    DagRunType.MANUAL: tuple(origin for origin in Origin if origin not in (Origin.BACKFILL, Origin.TIME)),
    DagRunType.ASSET_TRIGGERED: (),
}


def span(asked: Parameters) -> Span:
    """Read `limit` and `offset`; raises Refused."""
    found = {name: asked.text(name) for name in ("offset", "limit")}
    offset, limit = (None if text is None else integer(("query", name), text) for name, text in found.items())
    return Span.within(offset, limit, default=DEFAULT_LIMIT, largest=LARGEST_LIMIT)


def run_order(wanted: Sequence[str]) -> tuple[Sorting, ...]:
    """Read by what runs are sorted, the oldest first if by nothing; raises Refused."""
    orders = []
    for attribute in wanted:
        by = _ORDERS.get(attribute.lstrip("-"))
        if by is None:
            raise disallowed_order(attribute.lstrip("-"))
        orders.append(Sorting(by, attribute.startswith("-")))
    return tuple(orders) or (Sorting(RunOrder.CREATED),)


def backwards(asked: Parameters, *allowed: str) -> bool:
    """Read an order whose attributes all mean the same one; raises Refused."""
    wanted = asked.texts("order_by")
    for attribute in wanted:
        if attribute.lstrip("-") not in allowed:
            raise disallowed_order(attribute.lstrip("-"))
    return bool(wanted) and wanted[0].startswith("-")


def run_filter(asked: Parameters) -> RunFilter:
    """Read which runs a list shows; raises Invalid or Refused."""
    for name in NOT_SERVED:
        if asked.text(name) is not None:
            raise not_served(f"The filter {name}")
    return RunFilter(
        states=run_states(asked.texts("state")),
        origins=_origins(asked.texts("run_type")),
        name_pattern=_pattern(asked, "run_id"),
        pipeline_pattern=_pattern(asked, "dag_id"),
        **ranges(asked.moment),
    )


def run_states(wanted: Sequence[str]) -> tuple[RunState, ...]:
    """Read states of DAG runs; raises Refused."""
    return tuple(ours for word in wanted for ours in _STATES[_word(word, DagRunState, "state")])


def ranges(moment: Moment) -> dict[str, Any]:
    """Read all ranges of time: a bound is exclusive for `_gt` and `_lt`."""
    found: dict[str, Any] = {}
    for name, ours in _RANGES.items():
        step = _MILLISECOND if ours == "created" else _INSTANT
        above, below = _later(moment(f"{name}_gt"), step), _later(moment(f"{name}_lte"), step)
        starts = [bound for bound in (moment(f"{name}_gte"), above) if bound is not None]
        ends = [bound for bound in (moment(f"{name}_lt"), below) if bound is not None]
        found[f"{ours}_after"] = max(starts, default=None)
        found[f"{ours}_before"] = min(ends, default=None)
    return found


def integer(place: tuple[str, str], text: str, *, least: int = 0) -> int:
    """Read a number out of a path or a query; raises Refused that names the place."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < LONGEST_NUMBER):
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise unprocessable(fault("int_parsing", place, message, text))
    if int(text) < least:
        message = f"Input should be greater than or equal to {least}"
        raise unprocessable(fault("greater_than_equal", place, message, text, ctx={"ge": least}))
    return int(text)


def to_cursor(offset: int) -> str:
    """Write where a page begins."""
    return base64.urlsafe_b64encode(str(offset).encode()).decode()


def from_cursor(cursor: str) -> int:
    """Read a cursor back; raises Refused."""
    try:
        return max(0, int(base64.urlsafe_b64decode(cursor.encode()).decode())) if cursor else 0
    except (binascii.Error, ValueError):
        raise Refused("Invalid cursor token", status=400) from None


def escape(text: str) -> str:
    """Keep what ILIKE would take for a wildcard from being one."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def pattern_of(asked: Parameters, *names: str) -> str | None:
    """Read the first of these patterns that is given, with the wildcards that Airflow puts around it."""
    return next((found for name in names if (found := _pattern(asked, name))), None)


def _pattern(asked: Parameters, name: str) -> str | None:
    if (text := asked.text(f"{name}_pattern")) not in (None, "~"):
        return f"%{text}%"
    if (text := asked.text(f"{name}_prefix_pattern")) not in (None, "~"):
        return f"{escape(text or '')}%"
    return None


def _origins(wanted: Sequence[str]) -> tuple[Origin, ...]:
    types = [_word(word, DagRunType, "run type") for word in wanted]
    found = tuple(origin for kind in types for origin in _ORIGINS[kind])
    if types and not found:
        raise not_served("The run type asset_triggered")
    return found


def _word(word: str, kind: type[E], name: str) -> E:
    try:
        return kind(word)
    except ValueError:
        raise refuse_value(f"Invalid value for {name}. Valid values are {', '.join(kind)}") from None


def _later(moment: dt.datetime | None, step: dt.timedelta) -> dt.datetime | None:
    return None if moment is None else min(moment, _LAST) + step
