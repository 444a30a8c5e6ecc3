"""What products that page by offset, or name a run by its key, ask the store."""

import datetime as dt
import uuid
from typing import Any

import pytest

from schemas.errors import NotFound
from schemas.overviews import RunTotals
from schemas.pages import MOST_COUNTED, Span
from schemas.pipelines import PipelineFilter
from schemas.runs import RunFilter, RunOrder, Sorting
from schemas.states import Origin, RunState
from schemas.store import backfills, pipelines, runs, schedules, tallies
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


@pytest.fixture
async def repeated(yard: Yard) -> Yard:
    """The same, and three more: 8 is known as `first`, 9 resumes it, 10 reruns that; they began an hour apart."""
    noon = dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)
    await yard.queue(run_key="first", origin="time", schedule_id=uuid.uuid4(), logical_date=noon, **columns("failed"))
    first = yard.runs[8]
    for origin in ("resume", "rerun"):
        await yard.queue(origin=origin, parent_id=yard.runs[-1], first_id=first, logical_date=noon, **columns("failed"))
    for place, hours in ((8, 2), (9, 0), (10, 1)):
        moment = noon + dt.timedelta(hours=hours)
        await yard.db.execute("UPDATE runs SET started_at = $2 WHERE id = $1", yard.runs[place], moment)
    return yard


def at(hour: int, minute: int = 0) -> dt.datetime:
    return dt.datetime(2026, 2, 1, hour, minute, tzinfo=dt.UTC)


async def test_runs_are_found_by_what_other_products_know_of_them(repeated: Yard) -> None:
    wanted: list[tuple[dict[str, Any], list[int]]] = [
        ({"is_newest": True, "pipeline_id": PIPELINE}, [10, 6, 5, 4, 3, 2, 1, 0]),
        ({"origins": (Origin.TIME,)}, [10, 9, 8]),
        ({"origins": (Origin.API,), "pipeline_id": PIPELINE}, [6, 5, 4, 3, 2, 1, 0]),
        ({"name_pattern": "FIR%"}, [10, 9, 8]),
        ({"name_pattern": "FIR%", "is_newest": True}, [10]),
        ({"name_pattern": "FIR%", "origins": (Origin.API,)}, []),
        ({"pipeline_pattern": "OTH%"}, [7]),
        ({"pipeline_ids": ("other", "nobody's")}, [7]),
        ({"started_after": at(13)}, [10, 8]),
        ({"started_before": at(13)}, [9]),
        ({"logical_date_after": at(12), "logical_date_before": at(12, 1)}, [10, 9, 8]),
        ({"logical_date_after": at(12, 1)}, []),
        ({"dated_after": at(12), "dated_before": at(12, 1)}, [10, 9, 8]),
        ({"dated_after": at(12, 1), "pipeline_ids": ("other",)}, [7]),
        ({"dated_before": at(12)}, []),
        ({"finished_before": at(0)}, [10, 9, 8, 5, 4, 3, 1]),
        ({"finished_after": at(0)}, []),
        ({"changed_before": at(0)}, []),
        ({"changed_after": at(0), "pipeline_ids": ("other",)}, [7]),
    ]

    for which, places in wanted:
        found = await runs.find_span(repeated.db, Span(), RunFilter(**which))
        assert [repeated.runs.index(run_id) for run_id in found.items] == places, which


async def test_runs_are_sorted_by_what_is_asked_for(repeated: Yard) -> None:
    wanted = [
        ([Sorting(RunOrder.STARTED)], [9, 10, 8]),
        ([Sorting(RunOrder.STARTED, is_descending=True)], [8, 10, 9]),
        ([Sorting(RunOrder.KEY)], [8, 10, 9]),
        ([Sorting(RunOrder.LOGICAL_DATE), Sorting(RunOrder.CREATED)], [8, 9, 10]),
        ([Sorting(RunOrder.DATE), Sorting(RunOrder.KEY)], [8, 10, 9]),
        ([Sorting(RunOrder.DURATION)], [8, 10, 9]),
        *(([Sorting(by), Sorting(RunOrder.STARTED)], [9, 10, 8]) for by in (RunOrder.STATE, RunOrder.PIPELINE)),
    ]

    for order, places in wanted:
        found = await runs.find_span(repeated.db, Span(), RunFilter(name_pattern="first"), order=order)
        assert [repeated.runs.index(run_id) for run_id in found.items] == places, order
    for by in RunOrder:
        found = await runs.find_span(repeated.db, Span(1, 1), RunFilter(name_pattern="first"), order=[Sorting(by)])
        assert (len(found.items), found.total) == (1, 3), by


async def test_a_name_is_that_of_the_first_run_and_means_the_newest(repeated: Yard) -> None:
    first, resumed, rerun = repeated.runs[8:]
    numbers = [(await runs.get(repeated.db, str(run_id), largest_body=0)).number for run_id in (first, resumed)]

    for key in ("first", str(first), str(resumed), str(rerun), *map(str, numbers)):
        assert await runs.newest_named(repeated.db, PIPELINE, key) == rerun
    named = await runs.names(repeated.db, [*repeated.runs[6:], uuid.uuid4()])
    assert {run_id: (name.name, name.origin, name.first_id) for run_id, name in named.items()} == {
        repeated.runs[6]: (str(repeated.runs[6]), Origin.API, repeated.runs[6]),
        repeated.runs[7]: ("manual__1", Origin.API, repeated.runs[7]),
    } | dict.fromkeys((first, resumed, rerun), ("first", Origin.TIME, first))
    with pytest.raises(NotFound):
        await runs.newest_named(repeated.db, "other", "first")


async def test_a_first_run_that_was_purged_is_still_found_by_its_id(repeated: Yard) -> None:
    first, _, rerun = repeated.runs[8:]
    await repeated.db.execute("DELETE FROM runs WHERE id = $1", first)

    assert await runs.newest_named(repeated.db, PIPELINE, str(first)) == rerun
    name = (await runs.names(repeated.db, [rerun]))[rerun]
    assert (name.name, name.origin) == (str(first), Origin.RERUN)


async def test_where_the_newest_run_of_a_date_stands_is_known(repeated: Yard) -> None:
    await repeated.queue(logical_date=at(12))

    found = await runs.states_of_dates(repeated.db, PIPELINE, [at(11), at(12)])

    assert found == {at(12): RunState.QUEUED}
    assert await runs.states_of_dates(repeated.db, "other", [at(12)]) == {}


async def test_pipelines_are_filtered_and_listed_backwards(yard: Yard) -> None:
    wanted = [
        (PipelineFilter(), ["p", "other"]),
        (PipelineFilter(pattern="%TH%"), ["other"]),
        (PipelineFilter(is_paused=False), ["p", "other"]),
        (PipelineFilter(is_paused=True), []),
        (PipelineFilter(is_broken=True), []),
        (PipelineFilter(is_broken=False, pattern="p"), ["p"]),
    ]

    for which, names in wanted:
        found = await pipelines.list_span(yard.db, Span(), q=None, which=which, backwards=True)
        assert ([pipeline.id for pipeline in found.items], found.total) == (names, len(names)), which


async def test_the_runs_of_pipelines_are_counted_by_state(yard: Yard) -> None:
    found = await tallies.totals(yard.db, [PIPELINE, "other", "nobody's"])

    assert found == {
        PIPELINE: RunTotals(pipeline_id=PIPELINE, success=1, failed=2, cancelled=1, running=0, queued=3),
        "other": RunTotals(pipeline_id="other", success=0, failed=0, cancelled=0, running=0, queued=1),
        "nobody's": RunTotals(pipeline_id="nobody's", success=0, failed=0, cancelled=0, running=0, queued=0),
    }


async def test_where_there_is_no_run_all_counts_are_zero(db: Database) -> None:
    none = RunTotals(pipeline_id="p", success=0, failed=0, cancelled=0, running=0, queued=0)

    assert await tallies.totals(db, ["p"]) == {"p": none}


async def test_backfills_are_listed_in_parts(yard: Yard) -> None:
    made = [await yard.backfill() for _ in range(3)]

    newest = await backfills.list_span(yard.db, Span(1, 1), pipeline_id=PIPELINE, oldest_first=False)
    oldest = await backfills.list_span(yard.db, Span(0, 2), pipeline_id=None, oldest_first=True)

    assert ([one.id for one in newest.items], newest.total) == ([made[1]], 3)
    assert ([one.id for one in oldest.items], oldest.total) == (made[:2], 3)
    assert (await backfills.list_span(yard.db, Span(), pipeline_id="other", oldest_first=False)).total == 0
