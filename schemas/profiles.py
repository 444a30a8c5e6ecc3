"""What an output looks like in figures, column by column, and how that differs from the run before."""

import uuid
from typing import Any, Literal

import msgspec

from schemas.previews import Preview

NULL_SPIKE_POINTS = 20.0  # more nulls than before, in percent points


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One column; percentages are of the rows that were looked at, `type` is the word of polars."""

    name: str
    type: str
    null_count: int
    null_pct: float
    unique_count: int | None
    unique_pct: float | None
    min: Any
    max: Any
    mean: Any
    is_numeric: bool
    sample_values: list[Any]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A table in figures; when `sampled`, only its first `profiled_rows` rows and `columns` were looked at."""

    row_count: int
    column_count: int
    profiled_rows: int
    sampled: bool
    columns: list[ColumnProfile]
    profiling_ms: int


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One difference from the previous run."""

    column: str
    type: Literal["column_added", "column_removed", "type_changed", "null_spike"]
    previous: str | None
    current: str | None
    severity: Literal["warning", "critical"]


class ShownPreview(Preview, frozen=True, kw_only=True):
    """The answer of `/preview`: whose output it is, and its preview."""

    block_id: str
    map_index: int | None


class ShownProfile(Profile, frozen=True, kw_only=True):
    """The answer of `/profile`: the profile, and its drift from the previous run that succeeded, if there is one."""

    block_id: str
    map_index: int | None
    drift: list[Drift]
    compared_with: uuid.UUID | None


def find_drift(previous: Profile, current: Profile) -> list[Drift]:
    """Compare two profiles of one block, in the order of the columns; the rules are those that Brokoli users know."""
    before = {column.name: column for column in previous.columns}
    after = {column.name: column for column in current.columns}
    found = [_removed(column) for name, column in before.items() if name not in after]
    for name, column in after.items():
        if name not in before:
            found.append(_drift(name, "column_added", None, column.type, "warning"))
        elif before[name].type != column.type:
            found.append(_drift(name, "type_changed", before[name].type, column.type, "critical"))
        elif column.null_pct - before[name].null_pct > NULL_SPIKE_POINTS:
            nulls = f"{before[name].null_pct:.1f}%", f"{column.null_pct:.1f}%"
            found.append(_drift(name, "null_spike", *nulls, "warning"))
    return found


def _removed(column: ColumnProfile) -> Drift:
    return _drift(column.name, "column_removed", column.type, None, "critical")


def _drift(column: str, kind: Any, previous: str | None, current: str | None, severity: Any) -> Drift:
    return Drift(column=column, type=kind, previous=previous, current=current, severity=severity)
