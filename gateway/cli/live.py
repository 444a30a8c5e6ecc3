"""A run while it runs: on a terminal a picture that moves, elsewhere one plain line per change."""

import datetime as dt
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.client import Client, path, read, read_error
from gateway.cli.event_stream import ServerSentEvent
from gateway.cli.logs import StreamedLine, label
from gateway.cli.output import STATE_STYLES, between, clean, duration, moment, show_fields
from gateway.cli.runs import blocks_in_order
from schemas.errors import PenstockError
from schemas.pipelines import Pipeline
from schemas.runs import BlockRun, LogLine, Run
from schemas.states import BlockState, RunState

FRAMES_PER_S = 12
_NO_ERROR = msgspec.Raw(b"null")
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SYMBOLS = {
    "queued": "○",
    "pending": "○",
    "success": "✔",
    "failed": "✘",
    "cancelled": "■",
    "skipped": "↷",
    "upstream_failed": "✘",
}


class RunChange(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a `run` event."""

    at: dt.datetime
    state: RunState
    error: msgspec.Raw = _NO_ERROR


class BlockChange(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a `block` event."""

    at: dt.datetime
    block_id: str
    map_index: int | None = None
    state: BlockState
    attempt: int = 1
    duration_ms: int | None = None
    row_count: int | None = None
    error: msgspec.Raw = _NO_ERROR


def watch(
    client: Client, run: Mapping[str, Any], *, console: Console, timeout: float | None = None, utc: bool = False
) -> RunState:
    """Show a run until it has ended, and return the state in which it did; of `run` only its `id` is needed.

    Raises WaitTimeout after `timeout` seconds, NotFound for an unknown run.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    first = _fetch(client, str(run["id"]))
    progress = Progress(first, _block_ids(client, first))
    if console.is_interactive:
        with Live(progress, console=console, refresh_per_second=FRAMES_PER_S):
            for event in client.stream(path("runs", str(first.id), "stream"), deadline=deadline):
                _advance(progress, event, client)
    else:
        console.print(_opening_line(first, utc=utc), soft_wrap=True)
        for event in client.stream(path("runs", str(first.id), "stream"), deadline=deadline):
            _advance(progress, event, client)
            line = _line(event, progress.run, utc=utc)
            if line:
                console.print(Text(line), soft_wrap=True)
    _print_end(progress.run, console)
    return progress.run.state


class Progress:
    """What is known of a run at this moment, as something that rich can draw at any time.

    The display draws it from a thread of its own: every update replaces a value, none changes one in place.
    """

    def __init__(self, run: Run, block_ids: tuple[str, ...] = ()) -> None:
        self.run = run
        self._blocks = {block_id: _pending(block_id) for block_id in block_ids}
        self._last_words: dict[str, str] = {}
        self._items: defaultdict[str, dict[int, BlockState]] = defaultdict(dict)
        self._counts: defaultdict[str, Counter[BlockState]] = defaultdict(Counter)
        self.refresh(run)

    def refresh(self, run: Run) -> None:
        """Take over what the gateway says about the whole run."""
        self.run = run
        known = {block.block_id: block for block in blocks_in_order(run) if block.map_index is None}
        blocks = self._blocks | known
        if run.state is RunState.SUCCESS:  # a block without a row was in the file, but not when this run began
            blocks = {name: block for name, block in blocks.items() if name in known}
        self._blocks = blocks
        for block in run.block_runs:
            if block.map_index is not None:
                self._change_item(block.block_id, block.map_index, block.state)

    def change_run(self, change: RunChange) -> None:
        """Take over a change of the run's own state."""
        times: dict[str, Any] = {}
        if change.state is RunState.RUNNING and self.run.started_at is None:
            times["started_at"] = change.at
        if change.state.is_terminal:
            times["finished_at"] = change.at
        self.run = msgspec.structs.replace(self.run, state=change.state, error=change.error, **times)

    def change_block(self, change: BlockChange) -> None:
        """Take over a change of one block, or of one item of a mapped block."""
        if change.map_index is not None:
            self._change_item(change.block_id, change.map_index, change.state)
            return
        before = self._blocks.get(change.block_id) or _pending(change.block_id)
        is_running = change.state is BlockState.RUNNING
        after = msgspec.structs.replace(
            before,
            state=change.state,
            attempt=change.attempt,
            row_count=change.row_count,
            duration_ms=change.duration_ms,
            error=change.error,
            started_at=change.at if is_running else before.started_at,
            finished_at=None if is_running else change.at,
        )
        self._blocks = {**self._blocks, change.block_id: after}

    def hear(self, line: LogLine) -> None:
        """Keep the last thing that a block said."""
        if line.block_id and line.map_index is None:
            words = clean(f"{line.message} {show_fields(line.fields)}").strip()
            self._last_words = {**self._last_words, line.block_id: words}

    def _change_item(self, block_id: str, index: int, state: BlockState) -> None:
        """Count the items of a mapped block by their states, and say in its line how far they are."""
        items, counts = self._items[block_id], self._counts[block_id]
        if index in items:
            counts[items[index]] -= 1
        items[index] = state
        counts[state] += 1
        ended = len(items) - counts[BlockState.PENDING] - counts[BlockState.RUNNING]
        block = self._blocks.get(block_id)
        words = f"{ended:,} of {(block and block.row_count) or len(items):,} items"
        if failed := counts[BlockState.FAILED]:
            words += f", {failed:,} failed"
        self._last_words = {**self._last_words, block_id: words}

    def __rich__(self) -> RenderableType:
        now = dt.datetime.now(dt.UTC)
        run, blocks = self.run, self._blocks
        since = run.started_at or run.created_at
        header = Text.assemble(
            _symbol(run.state),
            (f" {clean(run.pipeline_id)}", "bold"),
            (f"  run #{run.number}  ", "dim"),
            (run.state, STATE_STYLES[run.state]),
            (f"  {between(since, run.finished_at or max(now, since))}", "dim"),
        )
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        for column in ("symbol", "block", "state", "duration", "rows"):
            table.add_column(justify="right" if column in ("duration", "rows") else "left", no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")  # what a block says gets the width that is left
        for block in blocks.values():
            table.add_row(*_cells(block, now, self._last_words.get(block.block_id, "")))
        return Group(header, table)


def _fetch(client: Client, run_id: str) -> Run:
    return read(client.fetch("GET", path("runs", run_id)), Run)


def _block_ids(client: Client, run: Run) -> tuple[str, ...]:
    """Name the blocks that a run will have, in the order of the graph; a block that waits has no row yet."""
    if run.state.is_terminal:
        return ()
    try:
        pipeline = read(client.fetch("GET", path("pipelines", run.pipeline_id)), Pipeline)
    except PenstockError:
        return ()
    return tuple(block.id for block in pipeline.graph.blocks) if pipeline.graph else ()


def _advance(progress: Progress, event: ServerSentEvent, client: Client) -> None:
    data = event.data.encode()
    if event.event == "run":
        progress.change_run(read(data, RunChange))
    elif event.event == "block":
        progress.change_block(read(data, BlockChange))
    elif event.event == "log":
        progress.hear(read(data, StreamedLine))
    elif event.event in ("gap", "end"):
        progress.refresh(_fetch(client, str(progress.run.id)))


def _cells(block: BlockRun, now: dt.datetime, last_words: str) -> list[Text]:
    took = duration(block.duration_ms)
    detail = Text(last_words, "dim")
    if block.state is BlockState.RUNNING and block.started_at:
        took = between(block.started_at, max(now, block.started_at))
    error = read_error(block.error)
    if error:
        detail = Text(clean(f"{error.type}: {error.message}"), "red")
    state = block.state + (f" (attempt {block.attempt})" if block.attempt > 1 else "")
    return [
        _symbol(block.state),
        Text(clean(block.block_id), "" if block.state is not BlockState.PENDING else "dim"),
        Text(state, STATE_STYLES[block.state]),
        Text(took),
        Text(_rows(block.row_count), "dim"),
        detail,
    ]


def _symbol(state: RunState | BlockState) -> Text:
    frame = _SPINNER[int(time.monotonic() * FRAMES_PER_S) % len(_SPINNER)]
    return Text(_SYMBOLS.get(state, frame), STATE_STYLES[state])


def _rows(count: int | None) -> str:
    if count is None:
        return ""
    return "1 row" if count == 1 else f"{count:,} rows"


def _opening_line(run: Run, *, utc: bool) -> Text:
    created = moment(run.created_at, utc=utc)
    return Text(clean(f"run #{run.number} of {run.pipeline_id}, {run.id}, created {created}"))


def _line(event: ServerSentEvent, run: Run, *, utc: bool) -> str:
    data = event.data.encode()
    if event.event == "run":
        change = read(data, RunChange)
        took = f" after {between(run.started_at, change.at)}" if change.state.is_terminal and run.started_at else ""
        return f"{_clock(change.at, utc=utc)} run #{run.number}: {change.state}{took}"
    if event.event == "block":
        return _block_line(read(data, BlockChange), utc=utc)
    if event.event == "log":
        line = read(data, StreamedLine)
        words = f"{label(line.block_id or 'run', line.map_index)} | {line.message} {show_fields(line.fields)}"
        return f"{_clock(line.at, utc=utc)} {clean(words).rstrip()}"
    return "(some events were left out; the end is complete)" if event.event == "gap" else ""


def _block_line(change: BlockChange, *, utc: bool) -> str:
    words = f"{_clock(change.at, utc=utc)} {label(change.block_id, change.map_index)}: {change.state}"
    if change.attempt > 1:
        words += f" (attempt {change.attempt})"
    if change.duration_ms is not None:
        words += f" after {duration(change.duration_ms)}"
    if change.row_count is not None:
        words += f", {_rows(change.row_count)}"
    error = read_error(change.error)
    if error:
        words += f": {error.type}: {error.message}"
    return clean(words)


def _clock(at: dt.datetime, *, utc: bool) -> str:
    return at.astimezone(dt.UTC if utc else None).strftime("%H:%M:%S.%f")[:-3]


def _print_end(run: Run, console: Console) -> None:
    error = read_error(run.error)
    if error:
        place = f" in block {error.block_id}" if error.block_id else ""
        console.print(Text(clean(f"{error.type}{place}: {error.message}"), "red"), soft_wrap=True)
        console.print(Text(f"Read on: penstock runs logs {run.id}", "dim"), soft_wrap=True)


def _pending(block_id: str) -> BlockRun:
    return BlockRun(
        block_id=block_id,
        map_index=None,
        state=BlockState.PENDING,
        attempt=1,
        row_count=None,
        queue_ms=None,
        duration_ms=None,
        started_at=None,
        finished_at=None,
        error=_NO_ERROR,
    )
