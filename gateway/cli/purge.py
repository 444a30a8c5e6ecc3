"""`penstock purge`: deletes what is old, after it has shown how much that is."""

import time
from contextlib import nullcontext

import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import Session, confirm, connected
from gateway.cli.output import Fields, Format, Output, Part, size
from schemas.purges import Phase, Preview, Purge

LOOK_EVERY_S = 0.5


@click.command()
@click.option(
    "--days", type=click.IntRange(1, 36_500), required=True, help="Runs that ended more than so many days ago."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Ask for it, and do not wait until it is done.")
@connected
def purge(session: Session, *, days: int, dry_run: bool, yes: bool, no_wait: bool) -> None:
    """Delete runs that ended long ago, with their events, logs and outputs.

    Active runs stay, whatever their age, and a delivery that comes again is still a duplicate. Ctrl-C ends the waiting,
    not the purge.

    \b
    Examples:
    penstock purge --days 90 --dry-run
    penstock purge --days 30 --yes
    """
    client, output = session.client, session.output
    raw = client.fetch("POST", path("purge"), body={"days": days, "dry_run": True})
    preview = read(raw, Preview)
    if dry_run:
        output.record(raw, lambda: _describe_preview(preview, output))
        return
    confirm(f"Delete about {_summary(preview)}, all older than {days} days?", yes=yes)
    raw = client.fetch("POST", path("purge"), body={"days": days})
    if not no_wait:
        raw = _wait(session, read(raw, Purge))
    output.record(raw, lambda: _describe(read(raw, Purge), output))


def _wait(session: Session, asked: Purge) -> bytes:
    """Look at the purge until it is done, with a bar for people."""
    output = session.output
    shows_a_bar = output.form is Format.TABLE and output.is_terminal
    bar = click.progressbar(length=1000, label="purging", show_pos=False) if shows_a_bar else nullcontext()
    with bar as shown:
        at = 0
        while True:
            raw = session.client.fetch("GET", path("purges", str(asked.id)))
            now = read(raw, Purge)
            if shown is not None:
                shown.update(round(now.progress * 1000) - at)
                at = round(now.progress * 1000)
            if now.phase is Phase.DONE:
                return raw
            time.sleep(LOOK_EVERY_S)


def _summary(preview: Preview) -> str:
    return f"{preview.runs:,} runs and {preview.events:,} events ({size(preview.bytes)})"


def _describe_preview(preview: Preview, output: Output) -> list[Part]:
    counts = _counts(preview)
    return [
        Fields((("older than", output.moment(preview.older_than)), *counts, ("size", f"about {size(preview.bytes)}")))
    ]


def _describe(purge: Purge, output: Output) -> list[Part]:
    pairs = (
        ("purge", str(purge.id)),
        ("phase", purge.phase),
        ("older than", output.moment(purge.older_than)),
        *_counts(purge),
        ("partitions", str(purge.partitions)),
        ("asked", output.moment(purge.created_at)),
        ("finished", output.moment(purge.finished_at)),
    )
    return [Fields(pairs)]


def _counts(counted: Preview | Purge) -> tuple[tuple[str, str], ...]:
    names = ("runs", "events", "changes", "log_lines", "outputs")
    return tuple((name.replace("_", " "), str(getattr(counted, name))) for name in names)
