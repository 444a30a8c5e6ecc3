"""What callers do with runs: trigger, read, list, cancel, read logs."""

import uuid
from collections.abc import Sequence

import msgspec

from gateway import params
from gateway.urls import Urls
from schemas import payload
from schemas.changes import Channels
from schemas.errors import Conflict
from schemas.pages import Found, Page
from schemas.payload import Kind
from schemas.pipelines import Graph
from schemas.queue import Doorbell, Ring
from schemas.runs import BlockRun, LogLine, Run, RunFilter, RunRow, Trigger
from schemas.states import BlockState, LogLevel, Origin, RunState
from schemas.store import logs, pipelines, runs
from schemas.store.db import Database

LARGEST_SHOWN_BODY = 25 << 20
LARGEST_LISTED_BODY = 16 << 10
_NULL = msgspec.Raw(b"null")


class Runs:
    """Reads and steers runs; executing them is the runners' business."""

    def __init__(self, db: Database, doorbell: Doorbell, *, urls: Urls, channels: Channels) -> None:
        self._db = db
        self._doorbell = doorbell
        self._urls = urls
        self._channels = channels

    async def trigger(self, pipeline_id: str, trigger: Trigger) -> Run:
        """Queue a run; raises NotFound, Invalid (params), Conflict (run_key taken, or the file was never readable)."""
        pipeline = await pipelines.get(self._db, pipeline_id)
        if pipeline.graph is None:
            raise Conflict(f"Pipeline {pipeline_id} cannot run: {pipeline.error}")
        params.check(trigger.variables, pipeline)
        run_id = await runs.create(self._db, pipeline_id, trigger)
        self._doorbell.ring([Ring(run_id, 0, pipeline_id)])
        return await self.get(str(run_id))

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

    async def cancel(self, key: str) -> Run:
        """Ask a run to end; raises NotFound, or Conflict when it has ended already."""
        run_id = await runs.find_id(self._db, key)
        state = await runs.cancel(self._db, run_id)
        if state is None:
            ended = await self.get(key)
            raise Conflict(f"Run {run_id} has ended already: {ended.state}.", state=ended.state)
        channel = self._channels.cancel if state is RunState.RUNNING else self._channels.changes
        await self._doorbell.announce(channel, [run_id])
        return await self.get(key)

    async def list_logs(
        self, key: str, page: Page, *, block_id: str | None, level: LogLevel | None, attempt: int | None
    ) -> list[LogLine]:
        """Read log lines in order, of this level and the more severe ones; raises NotFound."""
        run_id = await runs.find_id(self._db, key)
        return await logs.list_page(
            self._db,
            run_id,
            after=page.after_number,
            block_id=block_id,
            levels=None if level is None else _from(level),
            attempt=attempt,
            limit=page.limit + 1,
        )

    def _show(self, row: RunRow, block_runs: Sequence[BlockRun]) -> Run:
        return Run(
            event_variables=self._event_variables(row),
            resumed_from=row.parent_id if row.origin is Origin.RESUME else None,
            block_runs=tuple(block_runs),
            **{name: getattr(row, name) for name in _SHARED},
        )

    def _event_variables(self, row: RunRow) -> msgspec.Raw:
        if row.event_id is None or row.event_kind is None:
            return _NULL
        content_type, url = row.event_content_type or "", self._urls.event_body(row.event_id)
        if row.event_body is None or row.event_kind is Kind.BINARY:
            reference = payload.reference(
                row.event_size or 0, row.event_sha256 or "", content_type=content_type, url=url
            )
            return msgspec.Raw(msgspec.json.encode(reference))
        return msgspec.Raw(payload.as_json(row.event_kind, row.event_body, content_type=content_type, url=url))


_SHARED = tuple(name for name in Run.__struct_fields__ if name in RunRow.__struct_fields__)


def _from(level: LogLevel) -> list[LogLevel]:
    levels = list(LogLevel)
    return levels[levels.index(level) :]


def _in_order(begun: Sequence[BlockRun], graph: Graph | None) -> list[BlockRun]:
    """Put the blocks in the order of the graph; those without a row are pending."""
    by_id = {block.block_id: block for block in begun}
    if graph is None:
        return list(begun)
    return [by_id.get(block.id) or _pending(block.id) for block in graph.blocks]


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
