"""Tables on their way from block to block: lists of objects, frames, large ones and odd ones."""

import datetime as dt
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from runner import Run, pipeline


class Params(msgspec.Struct):
    rows: int = 100
    columns: dict[str, str] = {}
    padding: int = 0


class GateParams(msgspec.Struct):
    marker: str


tables = pipeline("tables", params=Params)
odd_tables = pipeline("odd_tables")
one_table = pipeline("one_table", params=Params)
spreads = pipeline("spreads")
returns_late = pipeline("returns_late", params=GateParams)
waits_for_marker = pipeline("waits_for_marker", params=GateParams)


@tables.block
def listed(run: Run[Params]) -> list[dict[str, Any]]:
    day = dt.date(2026, 1, 1)
    padding = "x" * run.params.padding
    return [
        {"id": number, "name": f"row {number}{padding}", "at": day, "price": number / 4}
        for number in range(run.params.rows)
    ]


@tables.block
def framed(listed: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(listed).with_columns(pl.col("name").cast(pl.Categorical).alias("kind"))


@tables.block
def lazy(framed: pl.DataFrame) -> pl.LazyFrame:
    assert isinstance(framed, pl.DataFrame)
    assert framed.schema["kind"] == pl.Categorical
    return framed.lazy().with_columns(pl.col("price") * 2)


@tables.block
def total(run: Run[Params], lazy: pl.DataFrame, listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {"sum": lazy["price"].sum(), "rows": len(listed), "is_dry_run": run.is_dry_run}


@one_table.block
def table(run: Run[Params]) -> list[dict[str, Any]]:
    make = {"int": lambda n: n, "text": lambda n: f"text {n}", "null": lambda n: None if n % 2 else n}
    return [
        {name: make[kind](number) for name, kind in run.params.columns.items()} for number in range(run.params.rows)
    ]


@odd_tables.block
def odd() -> list[dict[Any, Any]]:
    return [
        {"text": "a\0b", "mixed": 1, "big": 2**64 - 1, "nan": float("nan"), "nested": {"a": [{"b": None}]}, 7: b"\xff"},
        {"text": "x" * 100_000, "mixed": "two", "big": -(2**63), "nan": float("inf"), "nested": [1, "a"], "late": 1.5},
        {"text": "<script>alert(1)</script>", "mixed": [3], "big": 1.5, "nan": None, "nested": None, "": True},
        {},
    ]


@odd_tables.block
def odd_frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "huge": pl.Series([2**100, None], dtype=pl.Int128),
            "nan": [float("nan"), float("-inf")],
            "bytes": [b"\0\xff", None],
            "lists": [[1, 2], []],
            "structs": [{"a": 1}, None],
            "nothing": [None, None],
            "took": [dt.timedelta(seconds=1), None],
            "text": ["\0", "y" * 10_000],
        }
    )


@odd_tables.block
def no_rows() -> list[dict[str, Any]]:
    return []


@odd_tables.block
def no_columns() -> pl.DataFrame:
    return pl.DataFrame()


@odd_tables.block
def scalar() -> int:
    return 42


@odd_tables.block
def mixed_list() -> list[Any]:
    return [1, {"a": 2}, "three"]


@odd_tables.block
def long_text() -> str:
    return "z" * 300_000


@odd_tables.block
def deep() -> Any:
    value: Any = 1
    for _ in range(100):
        value = {"deeper": value}
    return value


@waits_for_marker.block
def large() -> bytes:
    return b"l" * 400_000


@waits_for_marker.block
def after(run: Run[GateParams], large: bytes) -> int:
    """The first time its runner is killed, with all that was executed there."""
    marker = Path(run.params.marker)
    if not marker.exists():
        marker.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10)
    return len(large)


@returns_late.block
def late(run: Run[GateParams]) -> bytes:
    while not Path(run.params.marker).exists():
        time.sleep(0.01)
    return b"l" * 400_000


@spreads.block
def many() -> list[dict[str, Any]]:
    return [{"n": number, "padding": "x" * 30_000} for number in range(12)]


@spreads.block(map="many")
def grown(many: dict[str, Any]) -> Any:
    """The seventh item is large, the others are small."""
    count = 500_000 if many["n"] == 7 else 2
    return pl.DataFrame({"n": [many["n"]] * count, "at": range(count)}).sample(fraction=1.0, shuffle=True)


@spreads.block
def gathered(grown: list[pl.DataFrame]) -> list[int]:
    return [frame.height for frame in grown]
