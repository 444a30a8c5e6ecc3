"""A preview of anything is JSON of a bounded size that Postgres and a browser take."""

import datetime as dt
import decimal
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.previews import LONGEST_TEXT, MOST_BYTES, MOST_COLUMNS, Preview, encode, preview_of

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner), max_leaves=30
)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_whatever_a_block_returns_has_a_preview(value: Any) -> None:
    encoded = encode(preview_of(value))

    assert len(encoded) <= MOST_BYTES
    assert encoded.decode()
    assert msgspec.json.decode(encoded, type=Preview)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (2**53, 2**53),
        (2**53 + 1, "9007199254740993"),
        (10**400, str(10**400)),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (b"\0\xff", "AP8="),
        ("a\0\ud800b", "a\0?b"),
        ("x" * 1000, "x" * LONGEST_TEXT + "…"),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([1, [2, [3, [4, [5]]]]], [1, [2, [3, [4, "list of 1"]]]]),
        (list(range(30)), [*range(20), "… 10 more"]),
    ],
)
def test_a_cell_is_cut_and_made_safe(cell: Any, shown: Any) -> None:
    assert preview_of([{"cell": cell}]).rows == [{"cell": shown}]


def test_rows_of_different_shapes_share_the_columns_of_all() -> None:
    preview = preview_of([{"b": 1}, {"a": 2}, {}])

    assert preview.columns == ["b", "a"]
    assert preview.rows == [{"b": 1, "a": None}, {"b": None, "a": 2}, {"b": None, "a": None}]
    assert (preview.row_count, preview.truncated) == (3, False)


def test_a_wide_and_heavy_table_is_cut_until_it_fits() -> None:
    preview = preview_of([{f"column {number}": "x" * 600 for number in range(1000)} for _ in range(60)])

    assert len(preview.columns or ()) == MOST_COLUMNS
    assert 0 < len(preview.rows or ()) < 50
    assert (preview.row_count, preview.truncated) == (60, True)
    assert len(encode(preview)) <= MOST_BYTES
