"""`penstock replays`: where replays of many events stand, and how to stop one."""

import time
from contextlib import nullcontext

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import Session, connected
from gateway.cli.output import Column, Fields, Format, Lines, Output, Part, json_text
from schemas.replays import Replay, ReplayState

POLL_S = 0.5
_COLUMNS = (
    Column("#", "number"),
    Column("state", "state"),
    Column("events", "number"),
    Column("runs", "number"),
    Column("created"),
    Column("by"),
    Column("id"),
)


@click.group()
def replays() -> None:
    """See where replays stand, and stop them; an ID is a replay's id or its number."""


@replays.command()
@click.option("--state", type=click.Choice([state.value for state in ReplayState]), help="Only those in this state.")
@connected
def ls(session: Session, *, state: str | None) -> None:
    """List replays, newest first."""
    output = session.output

    def row(item: msgspec.Raw) -> list[str]:
        found = read(item, Replay)
        counts = [str(found.number), found.state, str(found.events), str(found.runs)]
        return [*counts, output.moment(found.created_at), found.requested_by, str(found.id)]

    if not output.listing(session.client.pages(path("replays"), query={"state": state}, limit=None), _COLUMNS, row):
        output.note("No replays. Make one: penstock events replay --help")


@replays.command()
@click.argument("replay_id", metavar="ID")
@connected
def show(session: Session, *, replay_id: str) -> None:
    """Show one replay with its counts; its runs: penstock runs ls --replay ID."""
    _print(session.output, session.client.fetch("GET", path("replays", replay_id)))


@replays.command()
@click.argument("replay_id", metavar="ID")
@connected
def watch(session: Session, *, replay_id: str) -> None:
    """Follow a replay until it has ended."""
    found = read(session.client.fetch("GET", path("replays", replay_id)), Replay)
    _print(session.output, await_replay(session, found))


@replays.command()
@click.argument("replay_id", metavar="ID")
@connected
def cancel(session: Session, *, replay_id: str) -> None:
    """Stop a replay; the runs that it has made stay."""
    _print(session.output, session.client.fetch("POST", path("replays", replay_id, "cancel")))


def await_replay(session: Session, found: Replay) -> bytes:
    """Wait until a replay has ended, with a bar for people, and return it as the API tells of it."""
    output = session.output
    shows_a_bar = output.form is Format.TABLE and output.is_terminal
    bar = click.progressbar(length=1000, label=f"replay #{found.number}", show_pos=False)
    with bar if shows_a_bar else nullcontext() as shown:
        at = 0
        while True:
            raw = session.client.fetch("GET", path("replays", str(found.id)))
            now = read(raw, Replay)
            if shown is not None:
                reached = round((now.progress or 0) * 1000)
                shown.update(reached - at)
                at = reached
            if now.state is not ReplayState.RUNNING:
                return raw
            time.sleep(POLL_S)


def describe_replay(found: Replay, output: Output) -> list[Part]:
    """Tell everything about a replay."""
    counts = {name: getattr(found, name) for name in ("accepted", "filtered", "rejected", "handshake", "skipped")}
    pairs = (
        ("replay", str(found.number)),
        ("id", str(found.id)),
        ("by", found.requested_by),
        ("state", found.state),
        ("event", str(found.event_id or "")),
        ("mode", found.mode or "as it was, or by today's rules what did not run"),
        ("to schedule", str(found.schedule_id or "")),
        ("rate", f"{found.rate_per_s} a second"),
        ("limit", "" if found.limit is None else str(found.limit)),
        ("events", f"{found.events:,}" + (f" of {found.expected:,}" if found.expected is not None else "")),
        ("became", ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)),
        ("runs", str(found.runs)),
        ("created", output.moment(found.created_at)),
        ("finished", output.moment(found.finished_at)),
    )
    chosen = json_text(msgspec.json.encode(found.filter), indent=2)
    return [Fields(pairs), *([] if found.filter is None else [Lines("filter", tuple(chosen.splitlines()))])]


def _print(output: Output, raw: bytes) -> None:
    output.record(raw, lambda: describe_replay(read(raw, Replay), output))
