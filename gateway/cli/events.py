"""`penstock events`: every delivery that came, what became of it and why."""

from collections.abc import Iterator
from pathlib import Path

import rich_click as click

from gateway.cli import replaying, tailing
from gateway.cli.client import path, read
from gateway.cli.event_lists import COLUMNS, filtered, row
from gateway.cli.explaining import Explanation, describe_explanation
from gateway.cli.options import Session, connected
from gateway.cli.output import Column, Fields, Lines, Listing, Output, Part, json_text, size
from gateway.cli.saving import save
from schemas.events import BodyPreview, InspectedEvent

_HEADER_COLUMNS = (Column("header"), Column("value"))
_TIMING_COLUMNS = (Column("check"), Column("microseconds", "number"))
_DUPLICATE_COLUMNS = (Column("duplicate"), Column("received"), Column("body"), Column("size", "number"))
_RUN_COLUMNS = (
    Column("run", "number"),
    Column("state", "state"),
    Column("pipeline"),
    Column("origin"),
    Column("item", "number"),
    Column("id"),
)


@click.group()
def events() -> None:
    """See what came, why it did or did not run, and send it in again."""


for _command in (tailing.tail, replaying.replay):
    events.add_command(_command)


@events.command()
@filtered
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, newest first.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@connected
def ls(session: Session, *, which: dict[str, str], limit: int, everything: bool) -> None:
    """List events, newest first.

    \b
    Examples:
    penstock events ls --since 1h
    penstock events ls --verdict rejected --reason-code bad_signature
    penstock events ls --schedule 7 --q order-4711 --json
    """
    output = session.output
    most = None if everything else limit
    items = session.client.pages(path("events"), query=which, limit=most)
    count = output.listing(items, COLUMNS, lambda item: row(item, output))
    output.remark(count, most, "No events. Send one: penstock send SCHEDULE")


@events.command()
@click.argument("event_id", metavar="ID")
@click.option("--body", is_flag=True, help="Only the body, byte for byte.")
@click.option(
    "-f", "--file", type=click.Path(dir_okay=False, path_type=Path), help="With --body: where to; otherwise stdout."
)
@connected
def show(session: Session, *, event_id: str, body: bool, file: Path | None) -> None:
    """Show one event: verdict and reason, headers, timings, runs, and the beginning of its body.

    \b
    Examples:
    penstock events show 01980000-0000-7000-8000-000000000005
    penstock events show 01980000-0000-7000-8000-000000000005 --body --file push.json
    """
    if file is not None and not body:
        raise click.UsageError("--file needs --body.")
    if body:
        save(session.client.download(path("events", event_id, "body"), query={}), file)
        if file is not None:
            session.output.note(f"{file.stat().st_size:,} bytes in {file}")
        return
    raw = session.client.fetch("GET", path("events", event_id))
    session.output.record(raw, lambda: list(_describe(read(raw, InspectedEvent), session.output)))


@events.command()
@click.argument("event_id", metavar="ID")
@connected
def explain(session: Session, *, event_id: str) -> None:
    """Say step by step why an event did or did not run, with the value of each part of the expressions."""
    raw = session.client.fetch("GET", path("events", event_id, "explain"))
    session.output.record(raw, lambda: describe_explanation(read(raw, Explanation)))


def _describe(event: InspectedEvent, output: Output) -> Iterator[Part]:
    yield Fields(_facts(event, output))
    yield Listing(_HEADER_COLUMNS, list(read(event.headers, dict[str, str]).items()), "header")
    timings = read(event.timings, dict[str, int])
    yield Listing(_TIMING_COLUMNS, [[check, str(took)] for check, took in timings.items()], "timing")
    if event.runs:
        yield Listing(_RUN_COLUMNS, list(_run_rows(event)), "run")
    if event.duplicates:
        rows = [
            [str(found.id), output.moment(found.received_at), found.reason_code.replace("_", " "), size(found.size)]
            for found in event.duplicates
        ]
        yield Listing(_DUPLICATE_COLUMNS, rows, "duplicate")
    if event.body_preview.format != "none":
        yield Lines("body", tuple(_preview_lines(event.body_preview)))


def _facts(event: InspectedEvent, output: Output) -> tuple[tuple[str, str], ...]:
    others = f", {event.conflicts} with another body" if event.conflicts else ""
    return (
        ("event", str(event.id)),
        ("schedule", str(event.schedule_id)),
        ("source", event.source),
        ("type", event.event_type or ""),
        ("verdict", event.verdict),
        ("reason code", event.reason_code or ""),
        ("reason", event.reason or ""),
        ("strict would say", event.observed or ""),
        ("dedupe key", event.dedupe_key or ""),
        ("duplicate of", str(event.duplicate_of or "")),
        ("deliveries", f"{event.deliveries}{others}"),
        ("replays", str(event.replays or "")),
        ("received", output.moment(event.received_at)),
        ("content type", event.content_type),
        ("body", f"{event.kind}, {size(event.size)}"),
        ("sha256", event.sha256 or ""),
        ("query", event.query),
    )


def _run_rows(event: InspectedEvent) -> Iterator[list[str]]:
    for run in event.runs:
        yield [f"#{run.number}", run.state, run.pipeline_id, run.origin, str(run.item), str(run.id)]


def _preview_lines(preview: BodyPreview) -> list[str]:
    text = json_text(preview.value, indent=2) if preview.format == "json" else read(preview.value, str)
    return [*text.splitlines(), *(["(cut off; --body shows all)"] if preview.truncated else [])]
