"""Dry runs in a runner: the ordinary executor over the first rows, with a page that is written into memory alone."""

import asyncio
import contextlib
import shutil
import uuid
from typing import Any

import msgspec
import structlog

from runner.child import OnLog
from runner.executor import Executor
from runner.hosts import Hosts
from runner.lease import Lease
from runner.library import Library
from runner.ownership import Ownership, Reason
from runner.recorder import Page, Recorder
from runner.spool import BlockHosts, Spool, load_file
from runner.wire import Asked, Call, Outcome
from schemas import tasks
from schemas.dry_runs import DryBlock, DryRequest, DryResult
from schemas.entries import BlockEntry, OutputEntry
from schemas.errors import PenstockError
from schemas.outputs import UNMAPPED, Format, Output
from schemas.payload import Kind
from schemas.pipelines import DEFAULT_QUEUE, Definition, Graph
from schemas.previews import Preview, preview_of
from schemas.runs import Claimed, RunError
from schemas.states import BlockState, Origin, RunState
from schemas.store import dry_runs
from schemas.store.db import Database

log = structlog.get_logger()

AT_ONCE = 4
POLL_S = 2.0  # in case that Redis is away; otherwise a message wakes us
LOOK_EVERY_S = 0.5  # whether somebody still waits
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class DryRuns:
    """Takes the requests for dry runs of the pipelines that this runner has, and answers them."""

    def __init__(self, db: Database, lease: Lease, library: Library, hosts: Hosts, spool: Spool) -> None:
        self._db = db
        self._lease = lease
        self._library = library
        self._hosts = hosts
        self._spool = spool
        self._wake = asyncio.Event()
        self._executing: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def hear(self, _payload: bytes | None) -> None:
        """Look for requests now."""
        self._wake.set()

    async def start(self) -> None:
        """Begin to take requests."""
        self._task = asyncio.create_task(self._take_for_ever())

    async def stop(self) -> None:
        """Take no more requests and drop those at hand: another runner may take them once."""
        await tasks.end([self._task, *self._executing])

    async def _take_for_ever(self) -> None:
        while True:
            await tasks.set_within(self._wake, POLL_S)
            self._wake.clear()
            try:
                await self._take_all()
            except PenstockError as error:
                log.warning("dry runs are not taken, trying again", error=type(error).__name__)
            except Exception:
                log.exception("dry runs are not taken, trying again")

    async def _take_all(self) -> None:
        while len(self._executing) < AT_ONCE:
            runner_id = self._lease.runner_id
            request = await dry_runs.take(self._db, runner_id, self._library.versions)
            if request is None:
                return
            task = asyncio.create_task(self._answer(request, runner_id))
            self._executing.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._executing.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("dry run was not answered", error=str(error))

    async def _answer(self, request: DryRequest, runner_id: uuid.UUID) -> None:
        definition = self._library.get(request.pipeline_id)
        if definition is None or definition.graph is None:
            error = RunError(type="PipelineGone", message="The pipeline's file is gone.")
            result = DryResult(pipeline_id=request.pipeline_id, state=RunState.FAILED, error=error)
        else:
            result = await self._execute(request, runner_id, definition, definition.graph)
        await dry_runs.answer(self._db, request.id, runner_id, result)

    async def _execute(
        self, request: DryRequest, runner_id: uuid.UUID, definition: Definition, graph: Graph
    ) -> DryResult:
        run = _claimed(request)
        ownership, notes = Ownership(run), _Notes()
        page = Page(notes, run)
        watch = asyncio.create_task(self._stop_when_unwanted(request, runner_id, ownership))
        folder = self._spool.folder_of(f"dry.{request.id}")
        hosts = _CuttingHosts(self._hosts, folder, request.most_rows, self._spool.output_limit)
        try:
            trial = _for_trial(definition, graph)
            await Executor(trial, ownership, page=page, hosts=hosts, remotes=None, queues={DEFAULT_QUEUE}).execute()
            return notes.result(request.pipeline_id, graph)
        except Exception as error:  # whoever waits must hear a reason, whatever broke
            log.exception("dry run broke", pipeline_id=request.pipeline_id)
            broke = RunError(type=type(error).__name__, message=str(error))
            return DryResult(pipeline_id=request.pipeline_id, state=RunState.FAILED, error=broke)
        finally:
            await tasks.end([watch])
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _stop_when_unwanted(self, request: DryRequest, runner_id: uuid.UUID, ownership: Ownership) -> None:
        """Cancel the dry run when whoever asked has gone or waited long enough."""
        give_up_at = asyncio.get_running_loop().time() + request.time_left_s
        while asyncio.get_running_loop().time() < give_up_at:
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(PenstockError):
                if not await dry_runs.is_wanted(self._db, request.id, runner_id):
                    break
        ownership.stop(Reason.CANCELLED)


class _CuttingHosts:
    """Executes blocks of a dry run: tables are cut after so many rows, and large outputs stay in files."""

    def __init__(self, hosts: BlockHosts, folder: str, most_rows: int, output_limit: int) -> None:
        self._hosts = hosts
        self._changes = {"spool": folder, "most_rows": most_rows, "output_limit": output_limit}

    @property
    def limit(self) -> int:
        return self._hosts.limit

    async def run(
        self,
        call: Call,
        *,
        timeout: float | None,  # noqa: ASYNC109  (the block's own)
        on_log: OnLog,
        cancelled: asyncio.Event | None = None,
        ready_at: float | None = None,
    ) -> Outcome | Asked:
        call = msgspec.structs.replace(call, **self._changes)
        return await self._hosts.run(call, timeout=timeout, on_log=on_log, cancelled=cancelled, ready_at=ready_at)

    async def load(self, output: Output) -> Output:
        return await load_file(output)


class _Notes(Recorder):
    """Takes what the pages of a dry run say, and commits nothing."""

    def __init__(self) -> None:
        self._noted: list[Any] = []

    def submit(self, leaf: Any) -> "asyncio.Future[bool]":
        self._noted.append(leaf)
        committed = asyncio.get_running_loop().create_future()
        committed.set_result(True)
        return committed

    def result(self, pipeline_id: str, graph: Graph) -> DryResult:
        """Sum up what was written, with the blocks in the order of the graph."""
        blocks: dict[str, BlockEntry] = {}
        outputs: dict[str, dict[int, OutputEntry]] = {}
        for leaf in self._noted:
            blocks |= {entry.block_id: entry for entry in leaf.blocks.values() if entry.map_index == UNMAPPED}
            for output in leaf.outputs:
                outputs.setdefault(output.block_id, {})[output.map_index] = output
        ended = next((leaf.run for leaf in self._noted if leaf.run.state is not None), None)
        return DryResult(
            pipeline_id=pipeline_id,
            state=RunState.CANCELLED if ended is None else ended.state,
            blocks={block.id: _show(block.id, blocks.get(block.id), outputs.get(block.id)) for block in graph.blocks},
            error=None if ended is None else _error(ended.error),
        )


def _show(block_id: str, entry: BlockEntry | None, outputs: dict[int, OutputEntry] | None) -> DryBlock:
    if entry is None:
        return DryBlock(block_id=block_id, state=BlockState.PENDING)
    preview = _preview_of_all(outputs or {})
    return DryBlock(
        block_id=block_id,
        state=BlockState(entry.state),
        columns=preview.columns,
        rows=preview.rows,
        value=preview.value,
        row_count=entry.row_count,
        duration_ms=entry.duration_ms,
        error=_error(entry.error),
    )


def _preview_of_all(outputs: dict[int, OutputEntry]) -> Preview:
    """Show the output of a block, or of a mapped one what each of its items returned."""
    if UNMAPPED in outputs or not outputs:
        return _preview(outputs[UNMAPPED]) if outputs else Preview()
    items = [_preview(outputs[index]) for index in sorted(outputs)]
    return preview_of([item.value if item.columns is None else item.rows for item in items])


def _preview(output: OutputEntry) -> Preview:
    try:
        if output.preview is not None:
            return msgspec.json.decode(output.preview, type=Preview)
        if output.format is Format.MSGPACK and output.data is not None:
            return preview_of(msgspec.msgpack.decode(output.data))
    except _UNREADABLE:
        log.warning("output of a dry run is damaged", block_id=output.block_id)
    return Preview()


def _error(encoded: bytes | None) -> RunError | None:
    return None if encoded is None else msgspec.json.decode(encoded, type=RunError)


def _for_trial(definition: Definition, graph: Graph) -> Definition:
    """Leave out retries and callbacks, and let every block execute here, whatever its queue."""
    blocks = tuple(msgspec.structs.replace(block, retries=0, queue=DEFAULT_QUEUE) for block in graph.blocks)
    return msgspec.structs.replace(definition, graph=Graph(blocks))


def _claimed(request: DryRequest) -> Claimed:
    """Make up the run of a dry run, which is in no table; it has the request's id, and the number 0."""
    event = request.event_variables
    return Claimed(
        id=request.id,
        number=0,
        pipeline_id=request.pipeline_id,
        schedule_id=None,
        event_id=None,
        variables=request.variables,
        logical_date=None,
        origin=Origin.API,
        parent_id=None,
        queue=DEFAULT_QUEUE,
        attempt=1,
        epoch=1,
        seq=0,
        is_limited=False,
        wants_callback=False,
        run_timeout_s=None,
        time_left_s=None,
        event_kind=None if event is None else Kind.JSON,
        event_content_type=None if event is None else "application/json",
        event_body=event,
    )
