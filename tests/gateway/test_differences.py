"""Differences: every place where two JSON values differ, and no other."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import differences

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("a/~", max_size=3), inner, max_size=4),
    max_leaves=12,
)


def found(then: Any, now: Any, most: int = 100) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(msgspec.json.encode(differences.find(then, now, most=most)))
    return listed


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [{"pointer": "/a", "then": 1, "now": 2}]),
        ({"a": 1}, {"b": 1}, [{"pointer": "/a", "then": 1}, {"pointer": "/b", "now": 1}]),
        ({"a": None}, {}, [{"pointer": "/a", "then": None}]),
        ([1, 2], [1, 3, 4], [{"pointer": "/1", "then": 2, "now": 3}, {"pointer": "/2", "now": 4}]),
        ({"a": [1]}, {"a": {"0": 1}}, [{"pointer": "/a", "then": [1], "now": {"0": 1}}]),
        ({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, [{"pointer": "/a~1b/~0", "then": 1, "now": 2}]),
        (True, 1, [{"pointer": "", "then": True, "now": 1}]),
        (1, 1.0, [{"pointer": "", "then": 1, "now": 1.0}]),
        ({}, [], [{"pointer": "", "then": {}, "now": []}]),
    ],
)
def test_the_places_that_differ_are_named_with_both_sides(then: Any, now: Any, expected: list[dict[str, Any]]) -> None:
    assert found(then, now) == expected


def test_no_more_are_listed_than_asked_for() -> None:
    assert len(found(list(range(50)), list(range(1, 51)), most=7)) == 7


def test_what_is_nested_too_deeply_is_one_difference() -> None:
    then: Any = 1
    now: Any = 2
    for _ in range(900):
        then, now = [then], [now]

    assert [difference["pointer"] for difference in found(then, now)] == ["/0" * differences.DEEPEST]


@given(JSON, JSON)
def test_nothing_differs_exactly_when_both_are_the_same_text(then: Any, now: Any) -> None:
    is_same = json.dumps(then, sort_keys=True) == json.dumps(now, sort_keys=True)

    assert (found(then, now) == []) == is_same
