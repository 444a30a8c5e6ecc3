"""What Airflow's clients do to runs: the names they know them by, orders, ranges of time, new states."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from gateway.airflow.words import RUN_STATES, NewState
from gateway.core import Core
from gateway.errors import Refused
from schemas.keys import Caller
from schemas.runs import Mark, NamedRun, RunOrder, Sorting
from schemas.states import RunState

Moment = Callable[[str], dt.datetime | None]
_LAST = dt.datetime(9999, 12, 1, tzinfo=dt.UTC)
_INSTANT = dt.timedelta.resolution
_MILLISECOND = dt.timedelta(milliseconds=1)  # as far as the ids of runs tell when they were made


def run_id_of(named: NamedRun) -> str:
    """Say by which dag_run_id a run is known: its name, or an id if that would not go into a path."""
    name = named.name.name
    return str(named.name.first_id) if "/" in name or name in (".", "..") else name


def run_order(wanted: Sequence[str], orders: Mapping[str, RunOrder]) -> tuple[Sorting, ...]:
    """Read by what runs are sorted, the oldest first if by nothing; raises Refused."""
    found = []
    for attribute in wanted:
        by = orders.get(attribute.lstrip("-"))
        if by is None:
            raise disallowed_order(attribute)
        found.append(Sorting(by, attribute.startswith("-")))
    return tuple(found) or (Sorting(RunOrder.CREATED),)


def backwards(wanted: Sequence[str], *allowed: str) -> bool:
    """Read an order whose attributes all mean the same one; raises Refused."""
    for attribute in wanted:
        if attribute.lstrip("-") not in allowed:
            raise disallowed_order(attribute)
    return bool(wanted) and wanted[0].startswith("-")


def disallowed_order(attribute: str) -> Refused:
    """Say that nothing is sorted by this attribute."""
    name = attribute.lstrip("-")
    return Refused(f"Ordering with '{name}' is disallowed or the attribute does not exist on the model")


def ranges(moment: Moment, names: Mapping[str, str]) -> dict[str, Any]:
    """Read all ranges of time, `names` to ours: a bound is exclusive for `_gt` and `_lt`."""
    found: dict[str, Any] = {}
    for name, ours in names.items():
        step = _MILLISECOND if ours == "created" else _INSTANT
        above, below = _later(moment(f"{name}_gt"), step), _later(moment(f"{name}_lte"), step)
        starts = [bound for bound in (moment(f"{name}_gte"), above) if bound is not None]
        ends = [bound for bound in (moment(f"{name}_lt"), below) if bound is not None]
        found[f"{ours}_after"] = max(starts, default=None)
        found[f"{ours}_before"] = min(ends, default=None)
    return found


def as_made(named: NamedRun, *, before: UUID | None = None) -> NamedRun:
    """Show a new run as it was when it was made, however fast a runner has taken it since: Airflow never is so fast.

    The run that was there `before` is not new, and is shown as it stands.
    """
    if named.run.id == before:
        return named
    run = msgspec.structs.replace(named.run, state=RunState.QUEUED, started_at=None, finished_at=None)
    return NamedRun(run, named.name)


async def set_state(core: Core, named: NamedRun, state: NewState, caller: Caller) -> None:
    """Say what became of a run, or begin it anew: where it failed, and whole if it succeeded."""
    is_state = RUN_STATES[named.run.state].value
    if state is NewState.QUEUED:
        await core.control.requeue(named.run, caller, is_whole=is_state == NewState.SUCCESS, note=None)
    elif is_state != state.value:
        mark = Mark(state="success" if state is NewState.SUCCESS else "failed")
        await core.control.mark(str(named.run.id), mark, caller)


def _later(moment: dt.datetime | None, step: dt.timedelta) -> dt.datetime | None:
    return None if moment is None else min(moment, _LAST) + step
