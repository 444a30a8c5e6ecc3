"""What callers do with runs: trigger, read, list."""

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec

from gateway import params
from gateway.urls import Urls
from schemas.errors import Conflict, FieldError, Invalid, NotFound, Unavailable
from schemas.outputs import UNMAPPED
from schemas.pages import Counted, Found, Page, Span
from schemas.pipelines import Graph, Pipeline
from schemas.queue import Doorbell, Ring
from schemas.runs import BlockAttempt, BlockRun, NamedRun, Run, RunFilter, RunRow, Sorting, Trigger
from schemas.shown import show_run
from schemas.states import BlockState, OnPaused
from schemas.store import changes, clocks, pipelines, runs
from schemas.store.db import Database

LARGEST_SHOWN_BODY = 25 << 20
LARGEST_LISTED_BODY = 16 << 10
MOST_NAMESAKES = 20  # runs that one microsecond may name
_NULL = msgspec.Raw(b"null")


class Runs:
    """Reads and steers runs; executing them is the runners' business."""

    def __init__(self, db: Database, doorbell: Doorbell, *, urls: Urls) -> None:
        self._db = db
        self._doorbell = doorbell
        self._urls = urls

    async def trigger(
        self,
        pipeline_id: str,
        trigger: Trigger,
        *,
        on_paused: OnPaused | None = None,
        once_per_date: bool = False,
    ) -> Run:
        """Queue a run.

        `on_paused` is for products that answer for a paused pipeline in one way only, `once_per_date` for those in
        which a logical date names one run. Raises NotFound, Invalid (params, or no such run as `triggered_by`), or
        Conflict when the run_key is taken (`run_id` says by which) or the date (`same_date`), the pipeline is paused
        and rejects (`is_paused`), or its file was never readable.
        """
        pipeline = await pipelines.get(self._db, pipeline_id)
        if pipeline.graph is None:
            raise Conflict(f"Pipeline {pipeline_id} cannot run: {pipeline.error}")
        refuse_if_paused(pipeline, on_paused)
        params.check(trigger.variables, pipeline)
        if trigger.triggered_by is not None:
            await self._expect_run(trigger.triggered_by)
        if once_per_date:
            async with self._db.transaction() as transaction:
                run_id = await runs.create(transaction, pipeline_id, trigger, once_per_date=True)
        else:
            run_id = await runs.create(self._db, pipeline_id, trigger)
        self._doorbell.ring([Ring(run_id, 0, pipeline_id, pipeline.queue)])
        return await self.get(str(run_id))

    async def trigger_now(
        self,
        pipeline_id: str,
        trigger: Trigger,
        *,
        on_paused: OnPaused | None = None,
        once_per_date: bool = False,
        is_dated: bool = False,
    ) -> Run:
        """Queue a run under a key made of this moment, as `trigger_at` does."""
        now = await clocks.now(self._db)
        return await self.trigger_at(
            now, pipeline_id, trigger, on_paused=on_paused, once_per_date=once_per_date, is_dated=is_dated
        )

    async def trigger_at(
        self,
        moment: dt.datetime,
        pipeline_id: str,
        trigger: Trigger,
        *,
        on_paused: OnPaused | None = None,
        once_per_date: bool = False,
        is_dated: bool = False,
    ) -> Run:
        """Queue a run, now, under a key made of a moment, such as `manual__2026-01-31T12:00:00.000000+00:00`.

        Each of up to MOST_NAMESAKES calls gets a key of its own, microseconds apart; with `is_dated` the moment is its
        logical date as well. A key that the trigger has is kept. Raises what `trigger` raises, and Unavailable when
        there are more.
        """
        for later in range(MOST_NAMESAKES):
            at = moment + later * dt.timedelta.resolution
            key = trigger.run_key or f"manual__{at.isoformat(timespec='microseconds')}"
            date = at if is_dated else trigger.logical_date
            try:
                keyed = msgspec.structs.replace(trigger, run_key=key, logical_date=date)
                return await self.trigger(pipeline_id, keyed, on_paused=on_paused, once_per_date=once_per_date)
            except Conflict as error:
                is_chance = trigger.run_key is None and "run_id" in error.extra
                if not (is_chance or (is_dated and "same_date" in error.extra)):
                    raise
        raise Unavailable("Too many runs have their names from this moment.", retry_after=1)

    async def row(self, key: str) -> RunRow:
        """Read a run without its blocks and the body of its event; raises NotFound."""
        return await runs.get(self._db, key, largest_body=0)

    async def find(self, key: str) -> uuid.UUID:
        """Resolve an id or number; raises NotFound."""
        return await runs.find_id(self._db, key)

    async def get(self, key: str) -> Run:
        """Read a run with all its blocks, also those that have not begun; raises NotFound."""
        row = await runs.get(self._db, key, largest_body=LARGEST_SHOWN_BODY)
        begun = (await runs.block_runs(self._db, [row.id]))[row.id]
        graph = await pipelines.graph_of(self._db, row.pipeline_id, row.version)
        return self._show(row, _in_order(begun, graph))

    async def in_pipeline(self, pipeline_id: str, key: str) -> Run:
        """Read a run of this pipeline by its run_key, id or number; raises NotFound."""
        return await self.get(str(await runs.find_in_pipeline(self._db, pipeline_id, key)))

    async def newest_of(self, pipeline_ids: Sequence[str]) -> dict[str, RunRow]:
        """Read the newest run of each of these pipelines that has any, without blocks and the body of its event."""
        return await runs.newest_of_pipelines(self._db, pipeline_ids)

    async def begun_blocks(self, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[BlockRun]]:
        """Read the blocks of these runs that have begun, in no order."""
        return await runs.block_runs(self._db, run_ids)

    async def list_page(self, page: Page, which: RunFilter) -> Found[Run]:
        """Find the newest runs, without their blocks; a large payload is described instead of shown."""
        found = await runs.find(self._db, page.before_id, which, limit=page.limit + 1)
        rows = await runs.of_ids(self._db, found.items, largest_body=LARGEST_LISTED_BODY)
        return Found([self._show(row, ()) for row in rows], found.stopped_at)

    async def list_span(
        self, span: Span, which: RunFilter, *, oldest_first: bool = False, order: Sequence[Sorting] = ()
    ) -> Counted[Run]:
        """Find a part of the newest MOST_COUNTED runs, shown as `list_page` shows them, and how many there are."""
        found = await runs.find_span(self._db, span, which, oldest_first=oldest_first, order=order)
        rows = {row.id: row for row in await runs.of_ids(self._db, found.items, largest_body=LARGEST_LISTED_BODY)}
        return Counted([self._show(rows[run_id], ()) for run_id in found.items if run_id in rows], found.total)

    async def named(self, pipeline_id: str, key: str) -> NamedRun:
        """Read what this key, id or number names to other products: the newest of the runs that repeat one another.

        There, to resume or rerun a run begins it anew under its old name. Raises NotFound.
        """
        run_id = await runs.newest_named(self._db, pipeline_id, key)
        return await self.name(await self.get(str(run_id)))

    async def list_named(self, span: Span, which: RunFilter, order: Sequence[Sorting]) -> Counted[NamedRun]:
        """List runs as `list_span` does, but only the newest of those that repeat one another, with their names."""
        found = await self.list_span(span, msgspec.structs.replace(which, is_newest=True), order=order)
        names = await runs.names(self._db, [run.id for run in found.items])
        return Counted([NamedRun(run, names[run.id]) for run in found.items if run.id in names], found.total)

    async def name(self, run: Run) -> NamedRun:
        """Find what a run is known by; raises NotFound when it is gone meanwhile."""
        names = await runs.names(self._db, [run.id])
        if run.id not in names:
            raise NotFound(f"There is no run {run.id}.")
        return NamedRun(run, names[run.id])

    async def list_attempts(self, key: str, block_id: str, page: Page, *, map_index: int | None) -> list[BlockAttempt]:
        """Read the attempts of a block, or of one item of a mapped one; raises NotFound, also for an unknown block."""
        run_id = await runs.find_id(self._db, key)
        after, limit = page.after_number, page.limit + 1
        found = await changes.attempts(self._db, run_id, block_id, map_index=map_index, after=after, limit=limit)
        if not found and all(block.block_id != block_id for block in (await self.get(key)).block_runs):
            raise NotFound(f"Run {key} has no block {block_id!r}.")
        return found

    async def _expect_run(self, run_id: uuid.UUID) -> None:
        try:
            await runs.find_id(self._db, str(run_id))
        except NotFound as error:
            raise Invalid(error.message, errors=(FieldError("/triggered_by", error.message),)) from None

    def _show(self, row: RunRow, block_runs: Sequence[BlockRun]) -> Run:
        return show_run(row, block_runs, event_url=self._urls.event_body)


def refuse_if_paused(pipeline: Pipeline, on_paused: OnPaused | None = None) -> None:
    """Let a call to a paused pipeline through unless that, or `on_paused` in its place, rejects; raises Conflict."""
    if pipeline.is_paused and (on_paused or pipeline.on_paused) is OnPaused.REJECT:
        raise Conflict(
            f"Pipeline {pipeline.id} is paused and rejects runs: `penstock pipelines unpause {pipeline.id}`, or PATCH "
            f'/v1/pipelines/{pipeline.id} with {{"is_paused": false}}, lets it run again.',
            is_paused=True,
        )


def _in_order(begun: Sequence[BlockRun], graph: Graph | None) -> list[BlockRun]:
    """Put the blocks in the order of the graph, each before its items; a block without a row is pending.

    Callbacks come last, and only those that were called.
    """
    if graph is None:
        return list(begun)
    by_id: dict[str, list[BlockRun]] = {block.id: [] for block in (*graph.blocks, *graph.callbacks)}
    for block_run in begun:
        by_id.get(block_run.block_id, []).append(block_run)
    for block in graph.blocks:
        by_id[block.id] = sorted(by_id[block.id], key=_item) or [_pending(block.id)]
    return [block_run for of_a_block in by_id.values() for block_run in of_a_block]


def _item(block_run: BlockRun) -> int:
    return UNMAPPED if block_run.map_index is None else block_run.map_index


def _pending(block_id: str) -> BlockRun:
    return BlockRun(
        block_id=block_id,
        map_index=None,
        state=BlockState.PENDING,
        attempt=0,
        row_count=None,
        queue_ms=None,
        duration_ms=None,
        started_at=None,
        finished_at=None,
        error=_NULL,
    )
