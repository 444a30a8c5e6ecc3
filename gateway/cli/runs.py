"""`penstock runs`: what ran, what runs now, and what it wrote."""

import datetime as dt
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import rich_click as click

from gateway.cli import logs, outputs
from gateway.cli.client import RunFailed, WaitTimeout, path, read, read_error
from gateway.cli.logs import label
from gateway.cli.options import Ago, Session, connected
from gateway.cli.output import (
    Column,
    Fields,
    Lines,
    Listing,
    Output,
    Part,
    between,
    duration,
    json_text,
)
from schemas.runs import BlockRun, Run, RunError
from schemas.states import BlockState, Origin, RunState

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


@click.group()
def runs() -> None:
    """See runs, watch them live, cancel them, and read what they wrote."""


for _command in (logs.logs, outputs.preview, outputs.profile, outputs.output):
    runs.add_command(_command)


@runs.command()
@click.option("--pipeline", "pipeline_id", help="Only runs of this pipeline.")
@click.option("--state", type=click.Choice([state.value for state in RunState]), help="Only runs in this state.")
@click.option("--schedule", "schedule_id", help="Only runs that this schedule started.")
@click.option("--origin", type=click.Choice([origin.value for origin in Origin]), help="Only runs that exist for this.")
@click.option("--q", metavar="TEXT", help="Only runs with this text in their event, note or run_key.")
@click.option("--since", type=Ago(), metavar="SPAN|TIME", help="Only runs made since then: 2h, 7d, 2026-01-31T12:00Z.")
@click.option("--until", type=Ago(), metavar="SPAN|TIME", help="Only runs made before then.")
@click.option("--backfill", "backfill_id", help="Only runs of this backfill.")
@click.option("--replay", "replay_id", metavar="ID", help="Only runs of this replay.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, newest first.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@connected
def ls(
    session: Session,
    *,
    since: dt.datetime | None,
    until: dt.datetime | None,
    limit: int,
    everything: bool,
    **which: str | None,
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

    query = which | {
        "created_after": since.isoformat() if since else None,
        "created_before": until.isoformat() if until else None,
    }
    most = None if everything else limit
    count = output.listing(session.client.pages(path("runs"), query=query, limit=most), _COLUMNS, row)
    output.remark(count, most, "No runs. Start one: penstock trigger PIPELINE")


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


def await_all(session: Session, run_ids: Iterable[uuid.UUID], *, timeout: float | None) -> None:
    """Show runs until they have ended, one after the other; raise RunFailed of the last that did not succeed."""
    failure: RunFailed | None = None
    for run_id in run_ids:
        try:
            await_end(session, read(session.client.fetch("GET", path("runs", str(run_id))), Run), timeout=timeout)
        except RunFailed as failed:
            failure = failed
    if failure:
        raise failure


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
