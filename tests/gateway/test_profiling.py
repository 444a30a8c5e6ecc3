"""Figures and files that polars makes of outputs, here without the process that keeps them away from the gateway."""

import json
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from gateway.profiling import Job, Refusal, profile, to_frame, write_json, write_table
from schemas.outputs import Format
from schemas.profiles import ColumnProfile, Profile, find_drift


@pytest.fixture
def job(tmp_path: Path):
    def make(action: str, value: Any) -> Job:
        source = tmp_path / "source"
        is_frame = isinstance(value, pl.DataFrame)
        if is_frame:
            value.write_ipc(source, compression="lz4")
        else:
            source.write_bytes(msgspec.msgpack.encode(value))
        return Job(
            action=action,
            format=Format.POLARS if is_frame else Format.MSGPACK,
            source=str(source),
            target=str(tmp_path / "target"),
            row_count=len(value) if is_frame else None,
            memory_bytes=0,
        )

    return make


def columns_of(found: Profile) -> dict[str, ColumnProfile]:
    return {column.name: column for column in found.columns}


def test_each_column_has_its_figures(job) -> None:
    rows = [
        {"n": 1, "f": 1.5, "t": "a", "nan": float("nan")},
        {"n": 3, "f": 2, "t": "a"},
        {"n": None, "f": None, "t": "b"},
    ]

    found = columns_of(profile(job("profile", rows)))

    assert {name: column.type for name, column in found.items()} == {
        "n": "Int64", "f": "Float64", "t": "String", "nan": "Float64",
    }  # fmt: skip
    number = found["n"]
    assert (number.null_count, number.null_pct, number.unique_count, number.unique_pct) == (1, 33.33, 2, 66.67)
    assert (number.min, number.max, number.mean, number.sample_values) == (1, 3, 2.0, [1, 3])
    assert (found["f"].min, found["f"].max, found["f"].mean) == (1.5, 2.0, 1.75)
    assert (found["t"].min, found["t"].max, found["t"].mean, found["t"].is_numeric) == ("a", "b", None, False)
    assert found["nan"].min is None


@pytest.mark.parametrize(
    "values",
    [
        [1, "a", None],
        [2**64 - 1, -1],
        [2**64 - 1, 1.5],
        [{"a": 1}, {"b": 2}],
        [{"a": 1}, 3],
        [[1], ["a"], [None]],
        [[1, 2], [], None],
        [b"\0\xff", "text", b""],
        [float("nan"), float("inf")],
        [None, None],
        [True, 1],
        ["a\0b", "x" * 100_000],
        [{"deep": [{"er": [{}]}]}],
    ],
)
def test_no_column_is_too_odd(job, values: list[Any], tmp_path: Path) -> None:
    rows = [{"odd": value, 7: "number as a name"} for value in values]

    [odd, seven] = profile(job("profile", rows)).columns
    assert (odd.name, seven.name) == ("odd", "7")
    write_json(job("json", rows))
    assert len(json.loads((tmp_path / "target").read_bytes())) == len(values)
    for action, read in (("parquet", pl.read_parquet), ("arrow", pl.read_ipc)):
        write_table(job(action, rows))
        assert read(tmp_path / "target").height == len(values)


def test_no_value_of_a_column_of_objects_is_lost(job) -> None:
    assert to_frame([{"x": {"a": 1}}, {"x": {"b": [2]}}])["x"].to_list() == ['{"a":1}', '{"b":[2]}']


def test_a_frame_is_written_whatever_its_types(job, tmp_path: Path) -> None:
    frame = pl.DataFrame({"c": pl.Series(["a", None], dtype=pl.Categorical), "l": [[1], []], "b": [b"\xff", None]})

    write_json(job("json", frame))
    assert json.loads((tmp_path / "target").read_bytes()) == [
        {"c": "a", "l": [1], "b": "/w=="}, {"c": None, "l": [], "b": None},
    ]  # fmt: skip
    write_table(job("parquet", frame))
    assert pl.read_parquet(tmp_path / "target")["l"].to_list() == [[1], []]
    found = columns_of(profile(job("profile", frame)))
    assert found["c"].sample_values == ["a"]
    assert found["l"].unique_count == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [(42, "The output is no table but a number."), ([1, {}], "The output is a list, but not of objects only.")],
)
def test_what_is_no_table_is_refused_in_words(job, value: Any, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        profile(job("profile", value))
    with pytest.raises(Refusal, match=message):
        write_table(job("parquet", value))


def test_a_table_without_rows_or_columns_has_a_profile(job) -> None:
    for value in ([], [{}, {}], pl.DataFrame(), pl.DataFrame({"a": []})):
        found = profile(job("profile", value))
        assert found.sampled is False
        assert found.row_count == len(value)


def test_drift_needs_more_than_a_few_nulls(job) -> None:
    before = profile(job("profile", [{"a": 1}] * 10))

    assert find_drift(before, profile(job("profile", [{"a": 1}] * 8 + [{"a": None}] * 2))) == []
    [spike] = find_drift(before, profile(job("profile", [{"a": 1}] * 7 + [{"a": None}] * 3)))
    assert (spike.type, spike.previous, spike.current, spike.severity) == ("null_spike", "0.0%", "30.0%", "warning")
