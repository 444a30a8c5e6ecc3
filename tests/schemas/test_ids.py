"""Ids sort by time and never repeat; names of things are read without ever failing."""

import threading
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import id_or_number, new_id

NOTHING = (None, None)


def test_an_id_is_a_uuid_of_version_7_and_tells_its_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000

    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before - 1 <= made.int >> 80 <= after + 1


def test_ids_sort_in_the_order_in_which_they_were_made() -> None:
    made = [new_id() for _ in range(20_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_made_in_threads_do_not_repeat() -> None:
    made: list[uuid.UUID] = []

    def make() -> None:
        made.extend([new_id() for _ in range(5_000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == 20_000


@pytest.mark.parametrize(
    ("key", "meaning"),
    [
        ("7", (None, 7)),
        ("0", (None, 0)),
        (str(2**63 - 1), (None, 2**63 - 1)),
        (str(2**63), NOTHING),
        ("9" * 5_000, NOTHING),
        ("0198f0a0-0000-7000-8000-000000000001", (uuid.UUID("0198f0a0-0000-7000-8000-000000000001"), None)),
        ("0198F0A0000070008000000000000001", (uuid.UUID("0198f0a0-0000-7000-8000-000000000001"), None)),
        ("-1", NOTHING),
        ("1.0", NOTHING),
        ("٣", NOTHING),  # a digit, but not one of ours
        ("²", NOTHING),
        ("", NOTHING),
        ("latest", NOTHING),
        ("\x00", NOTHING),
    ],
)
def test_a_thing_is_named_by_id_or_by_number(key: str, meaning: tuple[uuid.UUID | None, int | None]) -> None:
    assert id_or_number(key) == meaning


@given(st.text())
def test_any_text_names_something_or_nothing(key: str) -> None:
    found_id, number = id_or_number(key)

    assert found_id is None or number is None
    assert number is None or 0 <= number < 2**63
