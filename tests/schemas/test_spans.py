"""What products that page by offset, or name a run by its key, ask the store."""

import datetime as dt
import uuid
from typing import Any

import pytest

from schemas.errors import NotFound
from schemas.pages import MOST_COUNTED, Span
from schemas.runs import RunFilter
from schemas.states import RunState
from schemas.store import pipelines, runs, schedules
from schemas.store.db import Database
from tests.claiming import PIPELINE, Yard

STATES = ["queued", "failed", "queued", "success", "failed", "cancelled", "queued"]
ENDED: dict[str, Any] = {"finished_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)}


def columns(state: str) -> dict[str, Any]:
    return {"state": state} | ({} if state == "queued" else ENDED) | ({"error": b"{}"} if state == "failed" else {})


@pytest.fixture
async def yard(db: Database) -> Yard:
    """Seven runs of `p`, whose places are the indices of STATES, and one of another pipeline."""
    opened = await Yard(db).open()
    for state in STATES:
        await opened.queue(**columns(state))
    await opened.insert("pipelines", {"id": "other", "file": "other.py", "version": "v1", "graph": {"blocks": []}})
    await opened.queue(pipeline_id="other", run_key="manual__1")
    return opened


@pytest.mark.parametrize(
    ("span", "which", "places", "total"),
    [
        (Span(), {}, [7, 6, 5, 4, 3, 2, 1, 0], 8),
        (Span(), {"pipeline_id": PIPELINE}, [6, 5, 4, 3, 2, 1, 0], 7),
        (Span(2, 3), {"pipeline_id": PIPELINE}, [4, 3, 2], 7),
        (Span(6, 3), {"pipeline_id": PIPELINE}, [0], 7),
        (Span(7, 3), {"pipeline_id": PIPELINE}, [], 7),
        (Span(0, 0), {"pipeline_id": PIPELINE}, [], 7),
        (Span(0, 2), {"state": RunState.QUEUED}, [7, 6], 4),
        (Span(1, 9), {"states": (RunState.FAILED, RunState.CANCELLED)}, [4, 1], 3),
        (Span(), {"states": (RunState.RUNNING,), "pipeline_id": PIPELINE}, [], 0),
        (Span(), {"pipeline_id": "nobody's"}, [], 0),
    ],
)
async def test_a_part_of_a_list_comes_with_the_total(
    span: Span, which: dict[str, Any], places: list[int], total: int, yard: Yard
) -> None:
    found = await runs.find_span(yard.db, span, RunFilter(**which))

    assert ([yard.runs.index(run_id) for run_id in found.items], found.total) == (places, total)


async def test_the_oldest_can_come_first(yard: Yard) -> None:
    found = await runs.find_span(yard.db, Span(1, 3), RunFilter(pipeline_id=PIPELINE), oldest_first=True)

    assert ([yard.runs.index(run_id) for run_id in found.items], found.total) == ([1, 2, 3], 7)


async def test_a_total_ends_where_counting_would_take_too_long(yard: Yard) -> None:
    await yard.db.execute(
        "INSERT INTO runs (id, pipeline_id) SELECT gen_random_uuid(), 'p' FROM generate_series(1, $1::int)",
        MOST_COUNTED,
    )

    found = await runs.find_span(yard.db, Span(MOST_COUNTED - 2, 5), RunFilter(pipeline_id=PIPELINE))

    assert (len(found.items), found.total) == (2, MOST_COUNTED)


@pytest.mark.parametrize(
    ("offset", "limit", "span"),
    [
        (None, None, Span(0, 50)),
        (3, 7, Span(3, 7)),
        (0, 0, Span(0, 0)),
        (10**9, 10**9, Span(MOST_COUNTED, 100)),
    ],
)
def test_a_span_has_bounds(offset: int | None, limit: int | None, span: Span) -> None:
    assert Span.within(offset, limit, default=50, largest=100) == span


@pytest.mark.parametrize(("number", "offset"), [(0, 0), (1, 0), (2, 25), (10**9, MOST_COUNTED)])
def test_a_numbered_page_is_a_span(number: int, offset: int) -> None:
    assert Span.of_page(number, 25) == Span(offset, 25)


async def test_a_run_is_found_by_key_id_or_number_within_its_pipeline(yard: Yard) -> None:
    run_id = yard.runs[7]
    number = (await runs.get(yard.db, str(run_id), largest_body=0)).number

    for key in ("manual__1", str(run_id), str(number)):
        assert await runs.find_in_pipeline(yard.db, "other", key) == run_id
        with pytest.raises(NotFound):
            await runs.find_in_pipeline(yard.db, PIPELINE, key)


async def test_a_key_counts_before_an_id_and_a_number_that_look_like_it(yard: Yard) -> None:
    number = (await runs.get(yard.db, str(yard.runs[0]), largest_body=0)).number
    await yard.queue(run_key=str(number))
    await yard.queue(run_key=str(yard.runs[1]))

    assert await runs.find_in_pipeline(yard.db, PIPELINE, str(number)) == yard.runs[8]
    assert await runs.find_in_pipeline(yard.db, PIPELINE, str(yard.runs[1])) == yard.runs[9]


async def test_the_newest_run_of_each_pipeline_is_found(yard: Yard) -> None:
    found = await runs.newest_of_pipelines(yard.db, [PIPELINE, "other", "nobody's"])

    assert {key: run.id for key, run in found.items()} == {PIPELINE: yard.runs[6], "other": yard.runs[7]}


async def test_pipelines_are_counted_and_found_by_one_of_their_spellings(yard: Yard) -> None:
    found = await pipelines.list_span(yard.db, Span(1, 5), q=None)

    assert ([pipeline.id for pipeline in found.items], found.total) == (["p"], 2)
    assert (await pipelines.list_span(yard.db, Span(), q="OTH")).total == 1
    for wanted, first in ((["x", "p", "other"], "p"), (["other", "p"], "other"), (["p", "other"], "p")):
        assert (await pipelines.first_of(yard.db, wanted)).id == first
    with pytest.raises(NotFound, match="There is no pipeline 'x'"):
        await pipelines.first_of(yard.db, ["x", "y"])


async def test_the_schedule_of_a_pipeline_is_its_oldest_that_a_clock_starts(yard: Yard) -> None:
    async def schedule(kind: str = "time", **fields: Any) -> uuid.UUID:
        return await yard.schedule(kind=kind, **({"cron": "0 6 * * *"} if kind == "time" else {}), **fields)

    await schedule("api")
    await schedule(deleted_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    oldest = await schedule()
    await schedule()
    of_other = await schedule(pipeline_id="other")

    found = await schedules.timed_of_pipelines(yard.db, [PIPELINE, "other", "nobody's"])

    assert {key: schedule.id for key, schedule in found.items()} == {PIPELINE: oldest, "other": of_other}


async def test_the_blocks_of_several_runs_are_read_at_once(yard: Yard) -> None:
    for place, block in ((0, "a"), (0, "b"), (1, "a"), (2, "a")):
        await yard.insert(
            "block_runs", {"run_id": yard.runs[place], "block_id": block, "state": "success", "attempt": 1}
        )

    found = await runs.block_runs(yard.db, yard.runs[:2])

    assert {key: sorted(block.block_id for block in blocks) for key, blocks in found.items()} == {
        yard.runs[0]: ["a", "b"],
        yard.runs[1]: ["a"],
    }
