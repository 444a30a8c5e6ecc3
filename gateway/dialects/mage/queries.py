"""The query strings of Mage's lists; a filter that is not known here is refused: to ignore it would answer wrongly."""

import datetime as dt
from collections.abc import Iterable

from gateway.core import Core
from gateway.dialects.mage.errors import invalid
from gateway.dialects.mage.wire import RUN_STATES, Metadata
from gateway.parameters import Parameters
from schemas.pages import LARGEST_LIMIT, Counted, Span
from schemas.runs import Run, RunFilter
from schemas.schedules import Schedule, ScheduleFilter
from schemas.states import RunState, ScheduleKind

DEFAULT_LIMIT = 40
_NEWEST_FIRST = frozenset({"execution_date", "id", "created_at"})
_NOT_OF_RUNS = ("pipeline_type", "pipeline_tag", "pipeline_tag[]", "global_data_product_uuid")
_NOT_OF_SCHEDULES = ("tag", "tag[]", "schedule_interval", "schedule_interval[]", "global_data_product_uuid")


def span(asked: Parameters) -> Span:
    """Read `_limit` and `_offset`."""
    limit, offset = asked.integer("_limit"), asked.integer("_offset")
    return Span.within(offset, limit, default=DEFAULT_LIMIT, largest=LARGEST_LIMIT)


def metadata(wanted: Span, found: Counted[Run] | Counted[Schedule]) -> Metadata:
    """Say how many there are in all, and whether some come after these."""
    return Metadata(found.total, wanted.offset + len(found.items) < found.total)


def is_oldest_first(asked: Parameters) -> bool:
    """Read `order_by[]`: by the time of the run, in either direction; raises Invalid for any other order."""
    words = [order.split() for order in _several(asked, "order_by")]
    for word, *direction in words:
        if word not in _NEWEST_FIRST or direction not in ([], ["asc"], ["desc"]):
            raise invalid("order_by: runs are sorted by `execution_date`, `created_at` or `id`, each `desc` or `asc`.")
    return bool(words) and words[0][1:] != ["desc"]


async def run_filter(asked: Parameters, core: Core, schedule: str | None = None) -> RunFilter:
    """Read which runs are wanted, of a schedule or of all; raises NotFound for an unknown schedule."""
    _refuse(asked, _NOT_OF_RUNS)
    states = tuple(_state(word) for word in _several(asked, "status"))
    pipelines = _several(asked, "pipeline_uuid")
    if len(pipelines) > 1:
        raise invalid("pipeline_uuid: name one pipeline, or none.")
    backfill = asked.text("backfill_id")
    return RunFilter(
        pipeline_id=pipelines[0] if pipelines else None,
        schedule_id=(await core.catalog.get_schedule(schedule)).id if schedule else None,
        backfill_id=await core.backfills.find(backfill) if backfill else None,
        state=states[0] if len(states) == 1 else None,
        states=states if len(states) > 1 else (),
        created_after=_moment(asked, "start_timestamp"),
        created_before=_moment(asked, "end_timestamp"),
    )


async def schedule_filter(asked: Parameters, core: Core, pipeline_id: str | None = None) -> ScheduleFilter:
    """Read which schedules are wanted, of a pipeline or of all; raises NotFound for an unknown pipeline."""
    _refuse(asked, _NOT_OF_SCHEDULES)
    if pipeline_id is not None:
        await core.catalog.get_pipeline(pipeline_id)
    statuses = set(_several(asked, "status"))
    if not statuses <= {"active", "inactive"}:
        raise invalid("status: it is active or inactive.")
    kinds = _several(asked, "schedule_type")
    if not set(kinds) <= {"api", "time", "event"}:
        raise invalid("schedule_type: it is api or time.")
    return ScheduleFilter(
        pipeline_id=pipeline_id,
        kinds=tuple(ScheduleKind(kind) for kind in kinds if kind != "event"),
        is_paused=statuses == {"inactive"} if len(statuses) == 1 else None,
    )


def parse_moment(text: str, what: str) -> dt.datetime:
    """Read a time as Mage writes it, in UTC unless it says otherwise; raises Invalid."""
    try:
        found = dt.datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise invalid(f"{what}: it is not a time such as 2026-01-31 12:00:00.") from None


def _several(asked: Parameters, name: str) -> list[str]:
    """Read a parameter that may come as `name`, as `name[]`, more than once, and with commas."""
    given = (*asked.texts(name), *asked.texts(f"{name}[]"))
    return [word.strip() for text in given for word in text.split(",") if word.strip()]


def _refuse(asked: Parameters, names: Iterable[str]) -> None:
    for name in names:
        if asked.texts(name):
            raise invalid(f"{name}: there is nothing of that kind here to filter by.")


def _state(word: str) -> RunState:
    if word not in RUN_STATES:
        raise invalid(f"status: it is one of {', '.join(RUN_STATES)}.")
    return RUN_STATES[word]


def _moment(asked: Parameters, name: str) -> dt.datetime | None:
    text = asked.text(name)
    return None if text is None else max(parse_moment(text, name), dt.datetime.fromtimestamp(0, dt.UTC))
