"""Data frames as bytes and back: polars, pandas and pyarrow, each kept as Arrow IPC and returned as what it was.

A library is never imported before a block returns or receives one of its tables: a block host that sees none stays
small and starts fast. pandas and pyarrow are the author's to install.
"""

import io
from pathlib import Path
from typing import Any

from schemas.outputs import Format

_FORMATS = {"polars": Format.POLARS, "pandas": Format.PANDAS, "pyarrow": Format.ARROW}
_TABLES = frozenset({"DataFrame", "LazyFrame", "Table", "RecordBatch"})
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple, set})
_COMPRESSION: Any = "lz4"


class Unfit(Exception):
    """This table cannot be written, or not read here; the text says why."""


def format_of(value: Any) -> Format | None:
    """Say which library a table is of, by the names of its classes; None for anything else."""
    if type(value) in _PLAIN:
        return None
    for base in type(value).__mro__:
        library = base.__module__.partition(".")[0]
        if library in _FORMATS and base.__name__ in _TABLES:
            return _FORMATS[library]
    return None


def prepare(value: Any, kind: Format, *, most_rows: int | None) -> tuple[Any, int]:
    """Make a table out of whatever of its library it is, at most so long, and count the rows before that.

    A lazy frame is computed, in a dry run only its first rows. Raises Unfit, or what the library raises.
    """
    if kind is Format.POLARS:
        if hasattr(value, "collect"):
            value = (value if most_rows is None else value.head(most_rows)).collect()
        return value.head(most_rows) if most_rows is not None else value, value.height
    count = value.num_rows if kind is Format.ARROW else len(value)
    if most_rows is not None and count > most_rows:
        value = value.slice(0, most_rows) if kind is Format.ARROW else value.head(most_rows)
    return _from_pandas(value) if kind is Format.PANDAS else _as_table(value), count


def first_rows(table: Any, count: int) -> list[dict[str, Any]]:
    """Read the first rows of a prepared table."""
    first = table.slice(0, count)
    rows: list[dict[str, Any]] = first.to_dicts() if _is_polars(table) else first.to_pylist()
    return rows


def size_of(table: Any) -> int:
    """Estimate how many bytes a prepared table has."""
    return int(table.estimated_size() if _is_polars(table) else table.nbytes)


def write(table: Any, target: io.BytesIO | Path) -> None:
    """Write a prepared table as Arrow IPC (the file format)."""
    if _is_polars(table):
        table.write_ipc(target, compression=_COMPRESSION)
        return
    import pyarrow as pa

    sink = str(target) if isinstance(target, Path) else target
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=_COMPRESSION)) as writer:
        writer.write_table(table)


def read(source: bytes | Path, kind: Format) -> Any:
    """Read Arrow IPC as a table of the library that it was of; raises Unfit when that is not installed here."""
    try:
        if kind is Format.POLARS:
            import polars as pl

            return pl.read_ipc(source)
        if kind is Format.PANDAS:
            return _to_pandas(source)
        return _read_arrow(source)
    except ImportError as error:
        raise Unfit(f"it is a table of {kind.value}, and {error.name} is not installed here") from None


def _read_arrow(source: bytes | Path) -> Any:
    import pyarrow as pa

    if isinstance(source, Path):
        with pa.OSFile(str(source)) as file:
            return pa.ipc.open_file(file).read_all()
    return pa.ipc.open_file(source).read_all()


def _as_table(value: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches([value]) if isinstance(value, pa.RecordBatch) else value


def _from_pandas(value: Any) -> Any:
    """By pyarrow, which keeps index and types; without it by polars, as far as that goes."""
    try:
        import pyarrow as pa
    except ImportError:
        return _from_pandas_by_polars(value)
    return pa.Table.from_pandas(value)


def _from_pandas_by_polars(value: Any) -> Any:
    import polars as pl

    try:
        return pl.from_pandas(value)
    except Exception as error:
        raise Unfit(f"a pandas DataFrame like this needs pyarrow, which is not installed here ({error})") from error


def _to_pandas(source: bytes | Path) -> Any:
    import pandas as pd

    try:
        return _read_arrow(source).to_pandas()
    except ImportError:
        import polars as pl

        return pd.DataFrame(pl.read_ipc(source).to_dict(as_series=False))


def _is_polars(table: Any) -> bool:
    return type(table).__module__.partition(".")[0] == "polars"
