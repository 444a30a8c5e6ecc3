"""Many callers, one commit, as seen by the callers and by whoever commits."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from schemas.errors import Conflict, Unavailable
from schemas.groupcommit import GroupCommit
from tests.waiting import eventually


class Table:
    """Commits rows of text by remembering them; it can be held up, be away, or refuse a row."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.outages = 0
        self.under_way = 0

    @property
    def rows(self) -> list[str]:
        return [row for batch in self.batches for row in batch]

    async def commit(self, rows: list[str]) -> Sequence[str]:
        self.under_way += 1
        try:
            await self.open.wait()
            if self.outages:
                self.outages -= 1
                raise Unavailable("away")
            if bad := [row for row in rows if row.startswith("bad")]:
                raise Conflict(f"{bad[0]} is refused")
            self.batches.append(list(rows))
            return [row.upper() for row in rows]
        finally:
            self.under_way -= 1


async def test_a_row_alone_is_committed_without_waiting_for_company() -> None:
    table = Table()

    assert await GroupCommit(table.commit, hold_s=5).submit("a") == "A"
    assert table.batches == [["a"]]


async def test_rows_of_one_moment_leave_together_and_each_gets_its_own_result() -> None:
    table = Table()
    group = GroupCommit(table.commit, hold_s=5)

    assert await asyncio.gather(*(group.submit(row) for row in "abc")) == ["A", "B", "C"]
    assert table.batches == [["a", "b", "c"]]


async def test_what_arrives_during_a_commit_shares_the_next_one() -> None:
    table = Table()
    table.open.clear()
    group = GroupCommit(table.commit, hold_s=5)
    first = group.submit("first")
    await eventually(lambda: table.under_way == 1)

    late = [group.submit(row) for row in "xyz"]
    table.open.set()

    assert await asyncio.gather(first, *late) == ["FIRST", "X", "Y", "Z"]
    assert table.batches == [["first"], ["x", "y", "z"]]


async def test_a_batch_has_no_more_rows_than_allowed() -> None:
    table = Table()
    group = GroupCommit(table.commit, hold_s=5, max_rows=2)

    await asyncio.gather(*(group.submit(row) for row in "abcde"))

    assert table.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_batch_stops_growing_at_its_size_but_always_has_one_row() -> None:
    table = Table()
    group = GroupCommit(table.commit, hold_s=5, max_size=5, size=len)

    await asyncio.gather(*(group.submit(row) for row in ("much too large", "ab", "cd", "ef", "gh")))

    assert table.batches == [["much too large"], ["ab", "cd", "ef"], ["gh"]]


@pytest.mark.parametrize("position", range(7))
async def test_a_row_that_is_refused_fails_alone(position: int) -> None:
    table = Table()
    group = GroupCommit(table.commit, hold_s=5)
    rows = [f"row {number}" for number in range(7)]
    rows[position] = "bad"

    results = await asyncio.gather(*(group.submit(row) for row in rows), return_exceptions=True)

    refused = results.pop(position)
    assert isinstance(refused, Conflict)
    assert refused.message == "bad is refused"
    assert results == [row.upper() for row in rows if row != "bad"]
    assert table.rows == [row for row in rows if row != "bad"]


async def test_every_refused_row_fails_and_no_other() -> None:
    group = GroupCommit(Table().commit, hold_s=5)
    rows = ["bad 1", "a", "bad 2", "bad 3", "b"]

    results = await asyncio.gather(*(group.submit(row) for row in rows), return_exceptions=True)

    assert [str(result) for result in results] == ["bad 1 is refused", "A", "bad 2 is refused", "bad 3 is refused", "B"]


async def test_an_outage_is_sat_out_and_the_same_rows_are_tried_again() -> None:
    table = Table()
    table.outages = 3
    group = GroupCommit(table.commit, hold_s=30)

    assert await asyncio.gather(group.submit("a"), group.submit("b")) == ["A", "B"]
    assert table.batches == [["a", "b"]]


async def test_a_commit_that_was_not_heard_is_asked_for_again() -> None:
    committed: list[list[str]] = []

    async def commit(rows: list[str]) -> Sequence[str]:
        committed.append(list(rows))
        if len(committed) == 1:
            raise Unavailable("the connection broke after COMMIT")
        return [f"try {len(committed)}" for _ in rows]

    assert await GroupCommit(commit, hold_s=30).submit("a") == "try 2"
    assert committed == [["a"], ["a"]]


async def test_a_row_is_held_for_its_time_and_then_given_up() -> None:
    table = Table()
    table.outages = 1000
    group = GroupCommit(table.commit, hold_s=0.2)
    began = time.monotonic()

    with pytest.raises(Unavailable, match="away"):
        await group.submit("a")

    assert 0.2 <= time.monotonic() - began < 5
    assert table.rows == []


async def test_a_row_whose_time_is_up_does_not_wait_for_a_commit_that_hangs() -> None:
    table = Table()
    table.open.clear()
    group = GroupCommit(table.commit, hold_s=0.1)
    hanging = group.submit("hanging")
    await eventually(lambda: table.under_way == 1)
    behind = group.submit("behind it")

    with pytest.raises(Unavailable, match="does not answer"):
        await hanging
    with pytest.raises(Unavailable, match="does not answer"):
        await behind

    assert table.under_way == 1
    table.open.set()
    await group.close()
    assert table.rows == [
        "hanging"
    ]  # as it happens with a real database: refused to the caller, committed all the same


async def test_too_much_is_refused_at_once_and_room_is_given_back() -> None:
    table = Table()
    table.open.clear()
    group = GroupCommit(table.commit, hold_s=5, max_waiting=10, size=len)
    held = group.submit("12345678")

    with pytest.raises(Unavailable) as refused:
        await group.submit("123")
    assert refused.value.retry_after == 2
    small = group.submit("12")

    table.open.set()
    assert await asyncio.gather(held, small) == ["12345678", "12"]
    assert await group.submit("1234567890") == "1234567890"


async def test_room_is_given_back_by_rows_that_failed() -> None:
    table = Table()
    table.outages = 1000
    group = GroupCommit(table.commit, hold_s=0.01, max_waiting=3, size=len)
    with pytest.raises(Unavailable, match="away"):
        await group.submit("abc")
    with pytest.raises(Unavailable, match="away"):
        await group.submit("def")
    table.outages = 0

    with pytest.raises(Conflict):
        await group.submit("bad")
    assert await group.submit("ghi") == "GHI"


async def test_a_caller_who_went_away_before_the_commit_leaves_no_row() -> None:
    table = Table()
    table.open.clear()
    group = GroupCommit(table.commit, hold_s=5, max_waiting=2)
    first = group.submit("first")
    await eventually(lambda: table.under_way == 1)
    group.submit("gone").cancel()

    table.open.set()
    await first
    await group.close()

    assert table.rows == ["first"]
    assert await asyncio.gather(group.submit("a"), group.submit("b")) == ["A", "B"]  # its room is free again


async def test_closing_waits_until_everything_was_answered() -> None:
    table = Table()
    table.open.clear()
    group = GroupCommit(table.commit, hold_s=5, max_rows=1)
    futures = [group.submit(row) for row in "abc"]
    closing = asyncio.create_task(group.close())
    await eventually(lambda: table.under_way == 1)
    assert not closing.done()

    table.open.set()
    await closing

    assert [future.result() for future in futures] == ["A", "B", "C"]


async def test_closing_what_was_never_used_is_immediate() -> None:
    await asyncio.wait_for(GroupCommit(Table().commit, hold_s=5).close(), 1)
