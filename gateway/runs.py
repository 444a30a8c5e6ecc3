"""What callers do with runs: trigger, read, list."""

import uuid
from collections.abc import Sequence

import msgspec

from gateway import params
from gateway.urls import Urls
from schemas.errors import Conflict, FieldError, Invalid, NotFound
from schemas.outputs import UNMAPPED
from schemas.pages import Found, Page
from schemas.pipelines import Graph, Pipeline
from schemas.queue import Doorbell, Ring
from schemas.runs import BlockAttempt, BlockRun, Run, RunFilter, RunRow, Trigger
from schemas.shown import show_run
from schemas.states import BlockState, OnPaused
from schemas.store import changes, pipelines, runs
from schemas.store.db import Database

LARGEST_SHOWN_BODY = 25 << 20
LARGEST_LISTED_BODY = 16 << 10
_NULL = msgspec.Raw(b"null")


class Runs:
    """Reads and steers runs; executing them is the runners' business."""

    def __init__(self, db: Database, doorbell: Doorbell, *, urls: Urls) -> None:
        self._db = db
        self._doorbell = doorbell
        self._urls = urls

    async def trigger(self, pipeline_id: str, trigger: Trigger) -> Run:
        """Queue a run.

        Raises NotFound, Invalid (params, or no such run as `triggered_by`), or Conflict when the run_key is taken, the
        pipeline is paused and rejects, or its file was never readable.
        """
        pipeline = await pipelines.get(self._db, pipeline_id)
        if pipeline.graph is None:
            raise Conflict(f"Pipeline {pipeline_id} cannot run: {pipeline.error}")
        refuse_if_paused(pipeline)
        params.check(trigger.variables, pipeline)
        if trigger.triggered_by is not None:
            await self._expect_run(trigger.triggered_by)
        run_id = await runs.create(self._db, pipeline_id, trigger)
        self._doorbell.ring([Ring(run_id, 0, pipeline_id, pipeline.queue)])
        return await self.get(str(run_id))

    async def row(self, key: str) -> RunRow:
        """Read a run without its blocks and the body of its event; raises NotFound."""
        return await runs.get(self._db, key, largest_body=0)

    async def find(self, key: str) -> uuid.UUID:
        """Resolve an id or number; raises NotFound."""
        return await runs.find_id(self._db, key)

    async def get(self, key: str) -> Run:
        """Read a run with all its blocks, also those that have not begun; raises NotFound."""
        row = await runs.get(self._db, key, largest_body=LARGEST_SHOWN_BODY)
        begun = await runs.block_runs(self._db, row.id)
        graph = await pipelines.graph_of(self._db, row.pipeline_id, row.version)
        return self._show(row, _in_order(begun, graph))

    async def list_page(self, page: Page, which: RunFilter) -> Found[Run]:
        """Find the newest runs, without their blocks; a large payload is described instead of shown."""
        found = await runs.find(self._db, page.before_id, which, limit=page.limit + 1)
        rows = await runs.of_ids(self._db, found.items, largest_body=LARGEST_LISTED_BODY)
        return Found([self._show(row, ()) for row in rows], found.stopped_at)

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


def refuse_if_paused(pipeline: Pipeline) -> None:
    """Let a call to a paused pipeline through unless that rejects; raises Conflict."""
    if pipeline.is_paused and pipeline.on_paused is OnPaused.REJECT:
        raise Conflict(
            f"Pipeline {pipeline.id} is paused and rejects runs: `penstock pipelines unpause {pipeline.id}`, or PATCH "
            f'/v1/pipelines/{pipeline.id} with {{"is_paused": false}}, lets it run again.'
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
