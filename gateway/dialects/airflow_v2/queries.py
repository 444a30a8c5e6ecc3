"""Query strings: paging, orders and ranges, as Airflow's lists take them, and as ours do."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from gateway.airflow.runs import ranges
from gateway.airflow.words import OUR_STATES, DagRunState
from gateway.dialects.airflow_v2.errors import fault, not_served, refuse_value, unprocessable
from gateway.parameters import Parameters
from schemas.pages import Span
from schemas.runs import RunFilter, RunOrder
from schemas.states import Origin, RunState

E = TypeVar("E", bound=StrEnum)
DEFAULT_LIMIT = 50
LARGEST_LIMIT = 100
LONGEST_NUMBER = 10  # digits, of which Postgres' integers have no more
RANGES = {
    "run_after": "created",
    "start_date": "started",
    "end_date": "finished",
    "logical_date": "logical_date",
    "updated_at": "changed",
}
ORDERS = {
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


class DagRunType(StrEnum):
    """Why a DAG run exists."""

    BACKFILL = "backfill"
    SCHEDULED = "scheduled"
    MANUAL = "manual"
    ASSET_TRIGGERED = "asset_triggered"


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
        **ranges(asked.moment, RANGES),
    )


def run_states(wanted: Sequence[str]) -> tuple[RunState, ...]:
    """Read states of DAG runs; raises Refused."""
    return tuple(ours for word in wanted for ours in OUR_STATES[_word(word, DagRunState, "state")])


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
