"""Data frames through the bytes that are stored, and back to what they were."""

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from runner.outputs import decode, encode
from runner.wire import Call, Reason, Refused
from schemas.objects import INLINE_LIMIT
from schemas.outputs import Format, Output
from schemas.previews import Preview


@pytest.fixture
def call(tmp_path: Path) -> Call:
    return Call(
        path="p.py", version="", pipeline_id="p", block_id="b", run_id=uuid.uuid4(), spool=str(tmp_path / "spool"),
        output_limit=10 << 20,
    )  # fmt: skip


def shown(output: Output) -> Preview:
    return msgspec.json.decode(output.preview or b"", type=Preview)


@pytest.mark.parametrize("rows", [3, 100_000])
def test_a_polars_frame_comes_back_equal_small_or_large(call: Call, rows: int) -> None:
    frame = pl.DataFrame({"a": range(rows), "c": pl.Series([str(n) for n in range(rows)], dtype=pl.Categorical)})

    output, row_count = encode(frame, call)

    assert (output.format, row_count, shown(output).columns) == (Format.POLARS, rows, ["a", "c"])
    assert (output.path is None) == (rows == 3)
    assert output.size == (len(output.data) if output.data else Path(output.path or "").stat().st_size)
    assert decode(output).equals(frame)
    lazy, _ = encode(frame.lazy(), call)
    assert decode(lazy).equals(frame)


def test_a_frame_that_shrinks_when_it_is_written_needs_no_file(call: Call) -> None:
    output, _ = encode(pl.DataFrame({"same": [0] * 1_000_000}), call)

    assert output.data is not None
    assert output.size <= INLINE_LIMIT
    assert not list(Path(call.spool or "").iterdir())


def test_pandas_frames_keep_their_index_and_types(call: Call) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    columns = {"n": [1, 2], "t": ["a", None], "at": pd.to_datetime(["2026-01-01", None])}
    frame = pd.DataFrame(columns, index=pd.Index(["x", "y"], name="key"))

    output, row_count = encode(frame, call)

    assert (output.format, row_count) == (Format.PANDAS, 2)
    assert shown(output).rows == [
        {"n": 1, "t": "a", "at": "2026-01-01T00:00:00", "key": "x"}, {"n": 2, "t": None, "at": None, "key": "y"},
    ]  # fmt: skip
    pd.testing.assert_frame_equal(decode(output), frame)
    cut, count = encode(frame, msgspec.structs.replace(call, most_rows=1))
    assert (len(decode(cut)), count) == (1, 2)


def test_arrow_tables_and_batches_come_back_as_tables(call: Call) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"n": list(range(200_000)), "t": [str(n) for n in range(200_000)]})

    output, row_count = encode(table, call)

    assert (output.format, row_count, output.path is not None) == (Format.ARROW, 200_000, True)
    assert decode(output).equals(table)
    batch, _ = encode(pa.record_batch({"n": [1]}), call)
    assert decode(batch).to_pylist() == [{"n": 1}]


def test_a_frame_beyond_the_limit_is_refused_and_leaves_no_file(call: Call) -> None:
    small = msgspec.structs.replace(call, output_limit=INLINE_LIMIT + 1)
    for value in (pl.DataFrame({"n": range(500_000)}).sample(fraction=1, shuffle=True), "x" * 400_000):
        with pytest.raises(Refused, match="the limit is 262,145") as refused:
            encode(value, small)
        assert refused.value.reason is Reason.OUTPUT_TOO_LARGE
    assert not list(Path(call.spool or "").iterdir())


def test_a_frame_that_cannot_be_stored_is_refused_in_words(call: Call) -> None:
    frame = pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)})

    with pytest.raises(Refused, match="block 'b' returned a DataFrame of polars that cannot be stored") as refused:
        encode(frame, call)
    assert refused.value.reason is Reason.OUTPUT_INVALID
    with pytest.raises(Refused, match=r"returned DataFrame at \$\.inner"):
        encode({"inner": pl.DataFrame({"a": [1]})}, call)


@pytest.mark.parametrize(
    "value", [[{"id": n, "text": "x" * 100} for n in range(5_000)], "z" * 300_000, {"a": "b" * 300_000}]
)
def test_large_data_comes_back_from_its_file(call: Call, value: Any) -> None:
    output, row_count = encode(value, call)

    assert (output.data, output.format) == (None, Format.MSGPACK)
    assert row_count == (len(value) if isinstance(value, list) else None)
    assert decode(output) == value
    assert shown(output).row_count == row_count


def test_a_dry_run_cuts_tables_and_counts_what_they_had(call: Call) -> None:
    dry = msgspec.structs.replace(call, most_rows=2)

    for value in (pl.DataFrame({"n": range(9)}), [{"n": n} for n in range(9)]):
        output, row_count = encode(value, dry)
        assert (len(decode(output)), row_count) == (2, 9)
    assert decode(encode("not cut", dry)[0]) == "not cut"


def test_a_host_that_sees_no_frame_imports_no_library_of_frames() -> None:
    code = (
        "import sys, uuid; from runner import host, outputs, wire\n"
        "call = wire.Call(path='', version='', pipeline_id='', block_id='', run_id=uuid.uuid4())\n"
        "outputs.decode(outputs.encode([{'a': 1}], call)[0])\n"
        "print({'polars', 'pandas', 'pyarrow', 'obstore'} & set(sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
