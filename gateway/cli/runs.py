"""`penstock runs`: what ran, what runs now, and what it wrote."""

import datetime as dt
import functools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click

from gateway.cli import outputs
from gateway.cli.client import PAGE_SIZE, Client, RunFailed, WaitTimeout, path, read, read_error
from gateway.cli.options import Ago, Session, Span, connected
from gateway.cli.output import (
    STATE_STYLES,
    Column,
    Fields,
    Format,
    Lines,
    Listing,
    Output,
    Part,
    between,
    clean,
    duration,
    json_text,
    show_fields,
)
from schemas.errors import PenstockError
from schemas.runs import BlockRun, LogLine, Run, RunError
from schemas.states import BlockState, LogLevel, Origin, RunState

MOST_ITEMS_SHOWN = 20
_COLUMNS = (
    Column("#", "number"),
    Column("pipeline"),
    Column("state", "state"),
    Column("created"),
    Column("duration", "number"),
    Column("id"),
)
_BLOCK_COLUMNS = (
    Column("block"),
    Column("state", "state"),
    Column("attempt", "number"),
    Column("duration", "number"),
    Column("rows", "number"),
    Column("error"),
)


class StreamedLine(LogLine, frozen=True, kw_only=True):
    """A log line as an event of a stream, which leaves out what is empty."""

    block_id: str | None = None
    fields: msgspec.Raw = msgspec.Raw(b"{}")


@click.group()
def runs() -> None:
    """See runs, watch them live, cancel them, and read what they wrote."""


for _command in (outputs.preview, outputs.profile, outputs.output):
    runs.add_command(_command)


@runs.command()
@click.option("--pipeline", help="Only runs of this pipeline.")
@click.option("--state", type=click.Choice([state.value for state in RunState]), help="Only runs in this state.")
@click.option("--schedule", help="Only runs that this schedule started.")
@click.option("--origin", type=click.Choice([origin.value for origin in Origin]), help="Only runs that exist for this.")
@click.option("--q", metavar="TEXT", help="Only runs with this text in their event, note or run_key.")
@click.option("--since", type=Ago(), metavar="SPAN|TIME", help="Only runs made since then: 2h, 7d, 2026-01-31T12:00Z.")
@click.option("--until", type=Ago(), metavar="SPAN|TIME", help="Only runs made before then.")
@click.option("--backfill", help="Only runs of this backfill.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, newest first.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@connected
def ls(
    session: Session,
    *,
    pipeline: str | None,
    state: str | None,
    schedule: str | None,
    origin: str | None,
    q: str | None,
    since: dt.datetime | None,
    until: dt.datetime | None,
    backfill: str | None,
    limit: int,
    everything: bool,
) -> None:
    """List runs, newest first.

    \b
    Examples:
    penstock runs ls --state failed --since 24h
    penstock runs ls --q order-4711
    penstock runs ls --pipeline hello --all -o jsonl
    """
    output = session.output

    def row(item: msgspec.Raw) -> list[str]:
        run = read(item, Run)
        took = between(run.started_at, run.finished_at)
        return [str(run.number), run.pipeline_id, run.state, output.moment(run.created_at), took, str(run.id)]

    query = {
        "pipeline_id": pipeline,
        "state": state,
        "schedule_id": schedule,
        "backfill_id": backfill,
        "origin": origin,
        "q": q,
    }
    query |= {
        "created_after": since.isoformat() if since else None,
        "created_before": until.isoformat() if until else None,
    }
    count = output.listing(
        session.client.pages(path("runs"), query=query, limit=None if everything else limit), _COLUMNS, row
    )
    if not count:
        output.note("No runs. Start one: penstock trigger PIPELINE")
    elif count == limit and not everything and output.form is Format.TABLE:
        output.note(f"The newest {limit}; see more with --limit or --all.")


@runs.command()
@click.argument("run_id", metavar="ID")
@connected
def show(session: Session, *, run_id: str) -> None:
    """Show one run: states, durations, errors, variables and the event that caused it."""
    raw = session.client.fetch("GET", path("runs", run_id))
    session.output.record(raw, lambda: describe(read(raw, Run), session.output))


@runs.command()
@click.argument("run_id", metavar="ID")
@connected
def cancel(session: Session, *, run_id: str) -> None:
    """Cancel a run: a queued one at once, a running one as soon as its blocks let go."""
    raw = session.client.fetch("POST", path("runs", run_id, "cancel"))
    session.output.record(raw, lambda: describe(read(raw, Run), session.output))
    if read(raw, Run).state is not RunState.CANCELLED:
        session.output.note(f"It is asked to end; see it with: penstock runs watch {run_id}")


@runs.command()
@click.argument("run_id", metavar="ID")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Then exit 8.")
@connected
def watch(session: Session, *, run_id: str, timeout: float | None) -> None:
    """Follow a run until it ends, block by block; exit 7 if it does not succeed.

    With -o json or jsonl each event is one line: {"event": ..., "data": ...}.
    """
    run = read(session.client.fetch("GET", path("runs", run_id)), Run)
    if not session.output.is_json:
        await_end(session, run, timeout=timeout)
        return
    with _explained(run):
        for event in session.client.stream(path("runs", str(run.id), "stream"), deadline=_deadline(timeout)):
            line = {"event": event.event, "data": msgspec.Raw(event.data.encode())}
            session.output.data(json_text(msgspec.json.encode(line), indent=-1))
    _expect_success(session.client.fetch("GET", path("runs", str(run.id))))


@runs.command()
@click.argument("run_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--level", type=click.Choice([level.value for level in LogLevel]), help="This level and those above it.")
@click.option("--block", help="Only what this block wrote.")
@click.option("--since", type=Span(), metavar="SPAN", help="Only the newest lines, such as of the last 15m.")
@click.option("--export", "file", type=click.Path(path_type=Path), metavar="FILE", help="Save them as text.")
@connected
def logs(
    session: Session,
    *,
    run_id: str,
    follow: bool,
    level: str | None,
    block: str | None,
    since: dt.timedelta | None,
    file: Path | None,
) -> None:
    """Print what the blocks of a run wrote: time, level, block, message, fields.

    \b
    Examples:
    penstock runs logs 12 --follow
    penstock runs logs 12 --level error -o jsonl
    penstock runs logs 12 --export run-12.txt
    """
    begin = None if since is None else dt.datetime.now(dt.UTC) - since
    wanted = _Wanted(LogLevel(level) if level else LogLevel.DEBUG, block, begin)
    if file is not None:
        if follow:
            raise click.UsageError("--export saves what there is: it does not follow.")
        _export(session, run_id, wanted, file)
        return
    lines = _follow(session.client, run_id, wanted) if follow else _stored(session.client, run_id, wanted)
    _print_logs(session.output, lines, as_stream=follow)


def await_end(session: Session, run: Run, *, timeout: float | None) -> None:
    """Show a run until it succeeds, or in JSON only how it ended; raise RunFailed or WaitTimeout otherwise."""
    client, output = session.client, session.output
    with _explained(run):
        if output.is_json:
            for _ in client.stream(path("runs", str(run.id), "stream"), deadline=_deadline(timeout)):
                pass
        else:
            from gateway.cli.live import watch as watch_live  # brings rich's live display, 40 ms

            watch_live(client, {"id": str(run.id)}, console=output.console(), timeout=timeout, utc=output.utc)
    raw = client.fetch("GET", path("runs", str(run.id)))
    if output.is_json:
        output.record(raw, list)
    _expect_success(raw)


def describe(run: Run, output: Output) -> list[Part]:
    """Tell everything about a run: the header first, then errors, blocks and variables where there are any."""
    parts: list[Part] = [Fields(_header(run, output))]
    parts.extend(map(_explain, _errors(run)))
    if run.block_runs:
        parts.append(Listing(_BLOCK_COLUMNS, [_block_row(block) for block in _worth_showing(run)], "block"))
    for name, value in (("variables", run.variables), ("event_variables", run.event_variables)):
        text = json_text(bytes(value), indent=2)
        if text not in ("{}", "null"):
            parts.append(Lines(name, tuple(text.splitlines())))
    return parts


def blocks_in_order(run: Run) -> list[BlockRun]:
    """Sort the blocks of a run by when they began, each before its items; those that never did come last."""
    began = {block.block_id: block.started_at for block in run.block_runs if block.map_index is None}

    def place(block: BlockRun) -> tuple[Any, ...]:
        at = began.get(block.block_id, block.started_at)
        return at is None, at, block.block_id, -1 if block.map_index is None else block.map_index

    return sorted(run.block_runs, key=place)


def label(block_id: str, map_index: int | None) -> str:
    """Name a block, or one item of a mapped block."""
    return block_id if map_index is None else f"{block_id}[{map_index}]"


def _worth_showing(run: Run) -> Iterator[BlockRun]:
    """Leave out the items that went well where there are many of them."""
    items = Counter(block.block_id for block in run.block_runs if block.map_index is not None)
    went_well = (BlockState.SUCCESS, BlockState.SKIPPED)
    for block in blocks_in_order(run):
        if block.map_index is None or items[block.block_id] <= MOST_ITEMS_SHOWN or block.state not in went_well:
            yield block


def _header(run: Run, output: Output) -> tuple[tuple[str, str], ...]:
    return (
        ("run", f"#{run.number}"),
        ("id", str(run.id)),
        ("pipeline", run.pipeline_id),
        ("state", run.state),
        ("schedule", str(run.schedule_id or "")),
        ("event", str(run.event_id or "")),
        ("origin", run.origin),
        ("parent", str(run.parent_id or "")),
        ("run key", run.run_key or ""),
        ("note", run.note or ""),
        ("logical date", output.moment(run.logical_date)),
        ("attempt", str(run.attempt) if run.attempt > 1 else ""),
        ("created", output.moment(run.created_at)),
        ("waited", between(run.created_at, run.started_at)),
        ("started", output.moment(run.started_at)),
        ("finished", output.moment(run.finished_at)),
        ("duration", between(run.started_at, run.finished_at)),
    )


def _errors(run: Run) -> Iterable[RunError]:
    """Collect the errors of run and blocks, each once: a run mostly fails with the error of a block."""
    blocks = [(block.block_id, block.error) for block in run.block_runs if block.map_index is None]
    places = [(None, run.error), *blocks]
    found = ((block_id, read_error(raw)) for block_id, raw in places)
    return dict.fromkeys(
        msgspec.structs.replace(error, block_id=error.block_id or block_id) for block_id, error in found if error
    )


def _explain(error: RunError) -> Lines:
    place = f" in block {error.block_id}" if error.block_id else ""
    details = (error.traceback or "").rstrip().splitlines()
    return Lines("error", (f"{error.type}{place}: {error.message}", *details))


def _block_row(block: BlockRun) -> list[str]:
    rows = "" if block.row_count is None else str(block.row_count)
    error = read_error(block.error)
    words = f"{error.type}: {error.message}" if error else ""
    name = label(block.block_id, block.map_index)
    return [name, block.state, str(block.attempt), duration(block.duration_ms), rows, words]


class _Wanted(msgspec.Struct, frozen=True):
    """Which log lines were asked for."""

    level: LogLevel
    block: str | None
    begin: dt.datetime | None

    @property
    def query(self) -> dict[str, Any]:
        begin = None if self.begin is None else self.begin.isoformat()
        return {"level": self.level, "block_id": self.block, "created_after": begin}

    def covers(self, line: LogLine) -> bool:
        order = list(LogLevel)
        is_new = self.begin is None or line.at >= self.begin
        return is_new and order.index(line.level) >= order.index(self.level) and self.block in (None, line.block_id)


def _export(session: Session, run_id: str, wanted: _Wanted, file: Path) -> None:
    """Save a log; a file that has its name is whole."""
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as target:
            for piece in session.client.download(path("runs", run_id, "logs", "export"), query=wanted.query):
                target.write(piece)
        part.replace(file)
    except OSError as error:
        raise PenstockError(f"{file} cannot be written: {error.strerror}.") from None
    session.output.note(f"Saved as {file}.")


def _stored(client: Client, run_id: str, wanted: _Wanted, after: int = 0) -> Iterator[msgspec.Raw]:
    while True:
        query = {"after": after, **wanted.query, "limit": PAGE_SIZE}
        page = read(client.fetch("GET", path("runs", run_id, "logs"), query=query), _LogPage)
        yield from page.items
        if page.next_cursor is None or not page.items:
            return
        after = read(page.items[-1], LogLine).seq


def _follow(client: Client, run_id: str, wanted: _Wanted) -> Iterator[msgspec.Raw]:
    """Give the stored lines, then those of the stream behind the last one; log lines and events share one numbering."""
    last = 0
    for item in _stored(client, run_id, wanted):
        last = read(item, LogLine).seq
        yield item
    for event in client.stream(path("runs", run_id, "stream"), last_event_id=str(last) if last else None):
        found: Iterable[msgspec.Raw] = ()
        if event.event == "log":
            found = [msgspec.Raw(msgspec.json.encode(read(event.data.encode(), StreamedLine)))]
        elif event.event == "gap":
            found = _stored(client, run_id, wanted, last)
        for item in found:
            line = read(item, LogLine)
            if line.seq > last and wanted.covers(line):
                last = line.seq
                yield item


def _print_logs(output: Output, lines: Iterator[msgspec.Raw], *, as_stream: bool) -> None:
    if output.form is Format.TABLE:
        from rich.text import Text

        console = output.console()
        for line in lines:
            at, level, block, message, fields = _log_row(line, output)
            shown = Text.assemble((at, "dim"), " ", (f"{level:<7}", STATE_STYLES[level]), " ", (block, "bold"), " ")
            console.print(
                shown.append(clean(message)).append(f" {clean(fields)}" if fields else "", "dim"), soft_wrap=True
            )
        return
    show = output.flow if as_stream else functools.partial(output.listing, columns=())
    show(lines, row=lambda line: _log_row(line, output))


def _log_row(item: msgspec.Raw, output: Output) -> tuple[str, str, str, str, str]:
    line = read(item, LogLine)
    name = clean(label(line.block_id or "", line.map_index))
    return output.moment(line.at), line.level.value, name, line.message, show_fields(line.fields)


class _LogPage(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]
    next_cursor: Any = None


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


@contextmanager
def _explained(run: Run) -> Iterator[None]:
    try:
        yield
    except WaitTimeout:
        raise WaitTimeout(f"Run #{run.number} has not ended yet. Watch on: penstock runs watch {run.id}") from None


def _expect_success(raw: bytes) -> None:
    run = read(raw, Run)
    if run.state is not RunState.SUCCESS:
        raise RunFailed(f"Run #{run.number} is {run.state}. Look into it: penstock runs show {run.id}")
