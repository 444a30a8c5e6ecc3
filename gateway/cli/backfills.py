"""`penstock backfill` starts one, `penstock backfills` says where they stand and steers them."""

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import Client, RunFailed, WaitTimeout, path, read
from gateway.cli.options import JsonObject, Session, connected, read_params
from gateway.cli.output import Column, Fields, Lines, Output, Part, json_text, moment
from schemas.backfills import Backfill, BackfillPreview, BackfillState

POLL_S = 1.0
_COLUMNS = (
    Column("#", "number"),
    Column("pipeline"),
    Column("state", "state"),
    Column("ended", "number"),
    Column("failed", "number"),
    Column("first date"),
    Column("last date"),
    Column("id"),
)


@click.command()
@click.argument("pipeline_id", metavar="PIPELINE")
@click.option("--start", required=True, metavar="DATE", help="The first: 2024-01-31, or a time with its offset.")
@click.option("--end", required=True, metavar="DATE", help="The last; it is included.")
@click.option("--every", default="day", show_default=True, help="hour, day, week, month, schedule, or a cron.")
@click.option("--schedule", metavar="ID", help="Whose variables and time zone, and with --every schedule whose times.")
@click.option("--timezone", metavar="ZONE", help="Where the days begin, such as Europe/Paris.  [default: UTC]")
@click.option("-d", "--data", type=JsonObject(), metavar="JSON|@FILE|-", help="The variables as a JSON object.")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="One variable; JSON or else text.")
@click.option("--max-active-runs", type=click.IntRange(min=1), help="How many at the same time.  [default: 1]")
@click.option("--key", help="Another key makes a new backfill of what was backfilled before.")
@click.option("--dry-run", is_flag=True, help="Only say which dates it would have.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Watch it; exit 7 unless all runs succeed.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Then exit 8.")
@connected
def backfill(
    session: Session,
    *,
    pipeline_id: str,
    data: dict[str, msgspec.Raw] | None,
    params: tuple[str, ...],
    dry_run: bool,
    wait: bool,
    timeout: float | None,
    **asked: Any,
) -> None:
    """Run PIPELINE once for each date of a range, in order. Asking again for the same goes on watching it.

    \b
    Examples:
    penstock backfill orders --start 2024-01-01 --end 2024-01-31 --dry-run
    penstock backfill orders --start 2024-01-01 --end 2024-01-31 --max-active-runs 2
    penstock backfill orders --start 2024-01-01 --end 2024-12-31 --every schedule --schedule 7 --no-wait
    """
    body = {"variables": (data or {}) | read_params(params), "schedule_id": asked.pop("schedule")} | asked
    body = {name: value for name, value in body.items() if value is not None} | {"dry_run": dry_run}
    raw = session.client.fetch("POST", path("pipelines", pipeline_id, "backfills"), body=body)
    if dry_run:
        session.output.record(raw, lambda: _describe_preview(read(raw, BackfillPreview)))
    elif wait:
        _await_end(session, read(raw, Backfill), timeout=timeout)
    else:
        _print(session.output, raw)
        session.output.note(f"Watch it: penstock backfills watch {read(raw, Backfill).number}")


@click.group()
def backfills() -> None:
    """See where backfills stand, pause and cancel them; an ID is a backfill's id or its number."""


@backfills.command()
@click.option("--pipeline", help="Only those of this pipeline.")
@click.option("--state", type=click.Choice([state.value for state in BackfillState]), help="Only those in this state.")
@connected
def ls(session: Session, *, pipeline: str | None, state: str | None) -> None:
    """List backfills, newest first."""

    def row(item: msgspec.Raw) -> list[str]:
        found = read(item, Backfill)
        names = [str(found.number), found.pipeline_id, found.state, f"{found.ended}/{found.total}", str(found.failed)]
        return [*names, _date(found.start), _date(found.end), str(found.id)]

    query = {"pipeline_id": pipeline, "state": state}
    if not session.output.listing(session.client.pages(path("backfills"), query=query, limit=None), _COLUMNS, row):
        session.output.note("No backfills. Start one: penstock backfill PIPELINE --start DATE --end DATE")


@backfills.command()
@click.argument("backfill_id", metavar="ID")
@connected
def show(session: Session, *, backfill_id: str) -> None:
    """Show one backfill with its progress; its runs: penstock runs ls --backfill ID."""
    _print(session.output, session.client.fetch("GET", path("backfills", backfill_id)))


@backfills.command()
@click.argument("backfill_id", metavar="ID")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Then exit 8.")
@connected
def watch(session: Session, *, backfill_id: str, timeout: float | None) -> None:
    """Follow a backfill until its last run has ended; exit 7 unless all of them succeed."""
    _await_end(session, _read(session.client, backfill_id), timeout=timeout)


@backfills.command()
@click.argument("backfill_id", metavar="ID")
@connected
def pause(session: Session, *, backfill_id: str) -> None:
    """Let no further run begin; those that run go on."""
    _print(session.output, session.client.fetch("POST", path("backfills", backfill_id, "pause")))


@backfills.command()
@click.argument("backfill_id", metavar="ID")
@connected
def unpause(session: Session, *, backfill_id: str) -> None:
    """Let runs begin again."""
    _print(session.output, session.client.fetch("POST", path("backfills", backfill_id, "unpause")))


@backfills.command()
@click.argument("backfill_id", metavar="ID")
@connected
def cancel(session: Session, *, backfill_id: str) -> None:
    """Cancel what waits at once, and what runs as soon as its blocks let go."""
    _print(session.output, session.client.fetch("POST", path("backfills", backfill_id, "cancel")))


@backfills.command()
@click.argument("backfill_id", metavar="ID")
@click.argument("max_active_runs", metavar="N", type=click.IntRange(min=1))
@connected
def limit(session: Session, *, backfill_id: str, max_active_runs: int) -> None:
    """Let N of its runs execute at the same time."""
    body = {"max_active_runs": max_active_runs}
    _print(session.output, session.client.fetch("PATCH", path("backfills", backfill_id), body=body))


def _await_end(session: Session, found: Backfill, *, timeout: float | None) -> None:
    """Show the progress of a backfill; raise RunFailed unless all its runs succeed, or WaitTimeout."""
    output = session.output
    progress = _progress(session.client, found, timeout=timeout)
    if output.is_json:
        *_, found = progress
        output.record(session.client.fetch("GET", path("backfills", str(found.id))), list)
    elif output.is_terminal:
        found = _draw(progress, output)
    else:
        for found in _milestones(progress):
            output.data(f"{found.state}\t{found.ended}/{found.total}\t{_counts(found)}")
    if found.success < found.total:
        raise RunFailed(f"Backfill #{found.number} has ended: {_counts(found)}. Look into it: {_runs_of(found)}")


def _progress(client: Client, found: Backfill, *, timeout: float | None) -> Iterator[Backfill]:
    deadline = None if timeout is None else time.monotonic() + timeout
    yield found
    while found.ended < found.total:
        if deadline is not None and time.monotonic() > deadline:
            number = found.number
            raise WaitTimeout(f"Backfill #{number} has not ended yet. Watch on: penstock backfills watch {number}")
        time.sleep(POLL_S)
        found = _read(client, str(found.id))
        yield found


def _milestones(progress: Iterator[Backfill]) -> Iterator[Backfill]:
    """Leave out what says nothing new: a line for each percent is enough for a file."""
    told: tuple[object, ...] = ()
    for found in progress:
        news = (found.state, found.ended * 100 // max(1, found.total))
        if news != told:
            told = news
            yield found


def _draw(progress: Iterator[Backfill], output: Output) -> Backfill:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[counts]}"))
    with Progress(*columns, TimeRemainingColumn(), console=output.console()) as bar:
        found = next(progress)
        name = f"{found.pipeline_id} backfill #{found.number}"
        task = bar.add_task(name, total=found.total, completed=found.ended, counts=_counts(found))
        for found in progress:
            paused = " (paused)" if found.state is BackfillState.PAUSED else ""
            bar.update(task, description=name + paused, completed=found.ended, counts=_counts(found))
    return found


def _counts(found: Backfill) -> str:
    named = {"running": found.running, "failed": found.failed, "cancelled": found.cancelled}
    return ", ".join([f"{found.success} succeeded", *(f"{count} {name}" for name, count in named.items() if count)])


def _runs_of(found: Backfill) -> str:
    return f"penstock runs ls --backfill {found.number} --state {'failed' if found.failed else 'cancelled'}"


def _read(client: Client, backfill_id: str) -> Backfill:
    return read(client.fetch("GET", path("backfills", backfill_id)), Backfill)


def _print(output: Output, raw: bytes) -> None:
    output.record(raw, lambda: _describe(read(raw, Backfill), output))


def _describe(found: Backfill, output: Output) -> list[Part]:
    pairs = (
        ("backfill", str(found.number)),
        ("id", str(found.id)),
        ("pipeline", found.pipeline_id),
        ("schedule", str(found.schedule_id or "")),
        ("key", found.key or ""),
        ("state", found.state),
        ("progress", f"{found.ended} of {found.total} ended: {_counts(found)}"),
        ("first date", _date(found.start)),
        ("last date", _date(found.end)),
        ("every", f"{found.every} ({found.timezone})"),
        ("max active runs", str(found.max_active_runs)),
        ("created", output.moment(found.created_at)),
        ("cancelled", output.moment(found.cancelled_at)),
    )
    variables = json_text(bytes(found.variables), indent=2)
    return [Fields(pairs), *([] if variables == "{}" else [Lines("variables", tuple(variables.splitlines()))])]


def _describe_preview(preview: BackfillPreview) -> list[Part]:
    pairs = (("runs", str(preview.count)), ("first date", _date(preview.first)), ("last date", _date(preview.last)))
    return [Fields(pairs), Lines("dates", tuple(map(_date, preview.dates)))]


def _date(logical_date: dt.datetime) -> str:
    return moment(logical_date, utc=True)
