"""A process of its own that reads one output with polars: its profile, or the same as JSON, Parquet or Arrow.

Started by `gateway/outputs.py` as `python -P -m gateway.profiling JOB`, under limits of memory and time, so that no
output, however odd, can harm the gateway. It executes no user code. Exit code 3 means: this output has no such form,
and standard error says why, in words for the caller.
"""

import base64
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.outputs import Format
from schemas.previews import bounded
from schemas.profiles import ColumnProfile, Profile

if TYPE_CHECKING:
    import polars as pl

MOST_ROWS = 500_000
MOST_COLUMNS = 1_000
SAMPLES = 5
REFUSED = 3
_SAMPLED_FROM = 1_000
_SAFE_INTEGER = 2**53
_SLICE = 10_000
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Refusal(Exception):
    """This output has no such form."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: `action` is `profile`, `json`, `parquet` or `arrow`, from one file into another."""

    action: str
    format: Format
    source: str
    target: str
    row_count: int | None
    memory_bytes: int


def main() -> int:
    """Do one job; the exit code says how it ended."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    resource.setrlimit(resource.RLIMIT_AS, (job.memory_bytes, job.memory_bytes))
    try:
        if job.action == "profile":
            Path(job.target).write_bytes(msgspec.json.encode(profile(job)))
        elif job.action == "json":
            write_json(job)
        else:
            write_table(job)
    except Refusal as refusal:
        sys.stderr.write(str(refusal))
        return REFUSED
    return 0


def profile(job: Job) -> Profile:
    """Describe each column of a table; raises Refusal when the output is none."""
    started = time.monotonic()
    frame, total, names = _read_for_profile(job)
    columns = [_describe(name, frame.get_column(name)) for name in names[:MOST_COLUMNS]]
    read = frame.height if names else min(total, MOST_ROWS)  # without columns a frame has no rows
    return Profile(
        row_count=total,
        column_count=len(names),
        profiled_rows=read,
        sampled=read < total or len(names) > MOST_COLUMNS,
        columns=columns,
        profiling_ms=round((time.monotonic() - started) * 1000),
    )


def write_json(job: Job) -> None:
    """Write any output as JSON, a table as a list of objects."""
    with open(job.target, "wb") as target:
        if job.format is Format.MSGPACK:
            target.write(_json(_decode(job)))
            return
        target.write(b"[")
        for number, row in enumerate(_rows(_read_frame(job))):
            target.write((b",\n" if number else b"\n") + _json(row))
        target.write(b"\n]")


def write_table(job: Job) -> None:
    """Write a table as Parquet or Arrow IPC; raises Refusal when the output is none."""
    frame = _read_frame(job) if job.format is not Format.MSGPACK else to_frame(_table(_decode(job)))
    if job.action == "parquet":
        frame.write_parquet(job.target)
    else:
        frame.write_ipc(job.target, compression="lz4")


def to_frame(rows: list[dict[Any, Any]]) -> "pl.DataFrame":
    """Make a frame of objects column by column; a column of several types, or of objects, is JSON text."""
    import polars as pl

    names = {str(name): name for row in rows for name in row}
    return pl.DataFrame([_series(text, [row.get(name) for row in rows]) for text, name in names.items()])


def _read_for_profile(job: Job) -> "tuple[pl.DataFrame, int, list[str]]":
    import polars as pl

    if job.format is Format.MSGPACK:
        rows = _table(_decode(job))
        frame = to_frame(rows[:MOST_ROWS])
        return frame, len(rows), frame.columns
    lazy = pl.scan_ipc(job.source)
    names = lazy.collect_schema().names()
    frame = lazy.select(names[:MOST_COLUMNS]).head(MOST_ROWS).collect()
    return frame, frame.height if job.row_count is None else job.row_count, names


def _read_frame(job: Job) -> "pl.DataFrame":
    import polars as pl

    return pl.read_ipc(job.source)


def _decode(job: Job) -> Any:
    return msgspec.msgpack.decode(Path(job.source).read_bytes())


def _table(value: Any) -> list[dict[Any, Any]]:
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value
    if isinstance(value, list):
        raise Refusal("The output is a list, but not of objects only.")
    raise Refusal(f"The output is no table but {_KINDS.get(type(value), 'data')}.")


_KINDS: dict[type, str] = {dict: "an object", str: "a text", int: "a number", float: "a number", type(None): "null"}


def _series(name: str, values: list[Any]) -> "pl.Series":
    import polars as pl

    if not any(isinstance(value, dict) for value in values):
        for candidate in (values, _as_floats(values)):
            try:
                return pl.Series(name, candidate, strict=True)
            except Exception:  # noqa: BLE001, S112  (whatever polars does not like becomes text)
                continue
    return pl.Series(name, [_as_text(value) for value in values], dtype=pl.String)


def _as_floats(values: list[Any]) -> list[Any]:
    """Whole numbers among floats are floats, as far as nothing is lost."""
    is_safe = all(isinstance(v, float) or v is None or (type(v) is int and abs(v) <= _SAFE_INTEGER) for v in values)
    return [None if value is None else float(value) for value in values] if is_safe else values


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else _json(value).decode()


def _describe(name: str, series: "pl.Series") -> ColumnProfile:
    kind, plain = str(series.dtype), _comparable(series)
    present = plain.drop_nulls()
    figures = present.drop_nans() if series.dtype.is_float() else present
    nulls, unique = series.null_count(), _unless_refused(present.n_unique)
    samples = _unless_refused(present.head(_SAMPLED_FROM).unique(maintain_order=True).head(SAMPLES).to_list)
    return ColumnProfile(
        name=name,
        type=kind,
        null_count=nulls,
        null_pct=_percent(nulls, series.len()),
        unique_count=unique,
        unique_pct=None if unique is None else _percent(unique, series.len()),
        min=bounded(_unless_refused(figures.min)),
        max=bounded(_unless_refused(figures.max)),
        mean=bounded(_unless_refused(figures.mean)) if series.dtype.is_numeric() else None,
        is_numeric=series.dtype.is_numeric(),
        sample_values=[bounded(value) for value in samples or ()],
    )


def _comparable(series: "pl.Series") -> "pl.Series":
    """Make text of what polars can neither sort nor count."""
    import polars as pl

    if series.dtype.is_nested() or series.dtype == pl.Object:
        return pl.Series(series.name, [_as_text(value) for value in series.to_list()], dtype=pl.String)
    return series.cast(pl.String) if series.dtype in (pl.Categorical, pl.Enum) else series


def _unless_refused(figure: Any) -> Any:
    try:
        return figure()
    except Exception:  # noqa: BLE001  (a figure that polars has not for this type)
        return None


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def _rows(frame: "pl.DataFrame") -> Iterator[dict[str, Any]]:
    for part in frame.iter_slices(_SLICE):
        yield from part.to_dicts()


def _json(value: Any) -> bytes:
    try:
        return _encode(value)
    except (TypeError, ValueError):
        return json.dumps(_with_text_keys(value), default=str).encode()


def _with_text_keys(value: Any) -> Any:
    """Make JSON of what has keys, or numbers, that JSON has not."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_text_keys(item) for item in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    sys.exit(main())
