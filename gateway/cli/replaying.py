"""`penstock events replay`: send events in again, one, several or many, after a look at what would be different."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import Client, path, read
from gateway.cli.event_lists import filtered
from gateway.cli.options import Session, confirm, connected
from gateway.cli.output import Column, Fields, Listing, Part
from gateway.cli.replays import await_replay, describe_replay
from gateway.cli.runs import await_all
from schemas.errors import Conflict, NotFound, PenstockError
from schemas.replays import Comparison, Replay, ReplayAnswer, ReplayMode, ReplayPreview
from schemas.states import Verdict

_COLUMNS = (Column("verdict", "state"), Column("reason"), Column("runs"), Column("event"))
_DIFFERENCE_COLUMNS = (Column("item", "number"), Column("place"), Column("then"), Column("now"))
_COMPARED_COLUMNS = (
    Column("was", "state"),
    Column("verdict", "state"),
    Column("reason"),
    Column("runs", "number"),
    Column("different"),
    Column("event"),
)


@click.command()
@click.argument("event_ids", metavar="[ID]...", nargs=-1)
@filtered
@click.option("--limit", type=click.IntRange(min=1), help="With a filter: so many at most, the oldest first.")
@click.option("--rate", type=click.IntRange(1, 1000), help="With a filter: so many a second.  [default: 10]")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in ReplayMode]),
    help="With the variables of then, or by today's rules.",
)
@click.option("--to", metavar="SCHEDULE", help="To another schedule.")
@click.option("--dry-run", is_flag=True, help="Only count them, and show what would be different.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="With a filter: see it through.")
@click.option("--follow", is_flag=True, help="With IDs: watch the runs; exit 7 unless all succeed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@connected
def replay(
    session: Session,
    *,
    event_ids: tuple[str, ...],
    which: dict[str, str],
    limit: int | None,
    rate: int | None,
    mode: str | None,
    to: str | None,
    dry_run: bool,
    wait: bool,
    follow: bool,
    yes: bool,
) -> None:
    """Send events in again, those named by ID, or all that a filter finds; exit 5 unless every ID became a run.

    Without --verdict a filter finds accepted and filtered events only. The mode is as_was for what became runs, and
    today for what did not.

    \b
    Examples:
    penstock events replay 01980000-0000-7000-8000-000000000005 --dry-run
    penstock events replay --schedule 7 --since 2h --verdict filtered --mode today
    penstock events replay --source stripe --since 1d --to 9 --rate 5
    """
    how = {name: value for name, value in {"mode": mode, "schedule_id": to}.items() if value is not None}
    if bool(event_ids) == bool(which):
        raise click.UsageError("Name events by ID, or choose them by a filter such as --schedule or --since.")
    if event_ids and (limit or rate):
        raise click.UsageError("--limit and --rate are for a filter.")
    if event_ids:
        _replay_each(session, event_ids, how, dry_run=dry_run, follow=follow)
        return
    if follow:
        raise click.UsageError("--follow is for IDs; the runs of a replay: penstock runs ls --replay ID")
    pace = {name: value for name, value in {"rate_per_s": rate, "limit": limit}.items() if value is not None}
    _replay_many(session, {"filter": which} | how | pace, dry_run=dry_run, wait=wait, yes=yes)


def _replay_each(
    session: Session, event_ids: Sequence[str], how: dict[str, Any], *, dry_run: bool, follow: bool
) -> None:
    done: list[bytes] = []
    failure: PenstockError | None = None
    for event_id in event_ids:
        try:
            done.append(_post(session.client, event_id, how | {"dry_run": dry_run}))
        except PenstockError as error:  # those before it are told first
            failure = error
            break
    replayed = [] if dry_run else [read(raw, ReplayAnswer) for raw in done]
    if dry_run and done:
        _print_comparisons(session, done)
    elif done and not (follow and session.output.is_json):
        session.output.listing(map(msgspec.Raw, done), _COLUMNS, _row)
    if failure:
        raise failure
    turned_away = [one for one in replayed if one.verdict is not Verdict.ACCEPTED]
    if follow:
        await_all(session, (run.id for one in replayed for run in one.runs), timeout=None)
    if turned_away:
        told = "\n".join(f"Event {one.event_id} is {one.verdict}: {one.reason}" for one in turned_away)
        raise Conflict(f"{len(turned_away)} of {len(replayed)} became no run.\n{told}")


def _post(client: Client, event_id: str, body: dict[str, Any]) -> bytes:
    return client.fetch("POST", path("events", event_id, "replay"), body=body)


def _replay_many(session: Session, body: dict[str, Any], *, dry_run: bool, wait: bool, yes: bool) -> None:
    client, output = session.client, session.output
    raw = client.fetch("POST", path("events", "replay"), body=body | {"dry_run": True})
    preview = read(raw, ReplayPreview)
    if dry_run:
        output.record(raw, lambda: list(_describe_preview(preview)))
        return
    if not preview.count:
        raise NotFound("No event is like that: there is nothing to replay.")
    confirm(f"Replay {_count(preview)}?", yes=yes)
    begun = client.fetch("POST", path("events", "replay"), body=body)
    ended = await_replay(session, read(begun, Replay)) if wait else begun
    output.record(ended, lambda: describe_replay(read(ended, Replay), output))
    if not wait:
        output.note(f"Watch it: penstock replays watch {read(begun, Replay).number}")


def _print_comparisons(session: Session, raws: Sequence[bytes]) -> None:
    output = session.output
    if len(raws) == 1:
        output.record(raws[0], lambda: list(_describe_comparison(read(raws[0], Comparison))))
    else:
        output.listing(map(msgspec.Raw, raws), _COMPARED_COLUMNS, lambda raw: _compared_row(read(raw, Comparison)))


def _row(raw: msgspec.Raw) -> list[str]:
    one = read(raw, ReplayAnswer)
    return [one.verdict, one.reason or "", " ".join(f"#{run.number}" for run in one.runs), str(one.event_id)]


def _describe_comparison(found: Comparison) -> Iterator[Part]:
    yield Fields(
        (
            ("event", str(found.event_id)),
            ("mode", found.mode or ""),
            ("schedule", str(found.schedule_id or "")),
            ("was", f"{found.was.verdict}{_because(found.was.reason)}"),
            ("would be", f"{found.verdict or 'not replayed'}{_because(found.reason)}"),
            ("runs", str(found.run_count)),
        )
    )
    rows = [
        [str(run.item), place.pointer, _value(place.then), _value(place.now)]
        for run in found.runs
        for place in run.differences
    ]
    if rows:
        yield Listing(_DIFFERENCE_COLUMNS, rows, "difference")


def _describe_preview(preview: ReplayPreview) -> Iterator[Part]:
    verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in preview.by_verdict.items())
    yield Fields((("events", _count(preview)), ("verdicts", verdicts)))
    if preview.events:
        yield Listing(_COMPARED_COLUMNS, map(_compared_row, preview.events), "event")


def _compared_row(found: Comparison) -> list[str]:
    places = dict.fromkeys(place.pointer for run in found.runs for place in run.differences)
    judged = [found.was.verdict, found.verdict or "not replayed", found.reason or ""]
    return [*judged, str(found.run_count), " ".join(places), str(found.event_id)]


def _value(value: Any) -> str:
    """Show one side of a difference as JSON; nothing where that side lacks the place."""
    return "" if value is msgspec.UNSET else msgspec.json.encode(value).decode()


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _count(preview: ReplayPreview) -> str:
    events = "1 event" if preview.count == 1 else f"{preview.count:,} events"
    return events if preview.is_complete else f"more than {events}"
