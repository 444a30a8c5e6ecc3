"""`penstock events tail`: new events as they come."""

import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

import msgspec
import rich_click as click

from gateway.cli.client import LONGEST_PAUSE_S, PAGE_SIZE, RECONNECTS, Client, path, read
from gateway.cli.event_lists import filtered, row
from gateway.cli.options import Session, connected
from gateway.cli.output import STATE_STYLES, Format, Output, clean
from schemas.errors import Unavailable
from schemas.events import ListedEvent
from schemas.ids import moment_of

_STREAM = path("stream") + "?topics=events"
_TOLD_ALIKE = ("source", "verdict", "reason_code", "event_type")


class ToldEvent(msgspec.Struct, frozen=True):
    """The data of an `event` of the stream, as far as it is a filter, too."""

    event_id: uuid.UUID
    source: str
    verdict: str
    reason_code: str | None = None
    event_type: str | None = None

    def may_match(self, which: Mapping[str, str]) -> bool:
        """Say whether the list has to be asked, which alone knows bodies, and how keys and schedules may be spelled."""
        return all(which.get(name) in (None, getattr(self, name)) for name in _TOLD_ALIKE)


@click.command()
@filtered
@click.option("--last", type=click.IntRange(0, PAGE_SIZE), default=0, show_default=True, help="Begin with so many.")
@connected
def tail(session: Session, *, which: dict[str, str], last: int) -> None:
    """Print new events as they come, until Ctrl-C.

    \b
    Examples:
    penstock events tail
    penstock events tail --schedule 7 --last 10
    penstock events tail --verdict rejected -o jsonl
    """
    if which.keys() & {"created_after", "created_before"}:
        raise click.UsageError("What comes has no --since and --until; --last begins with some of before.")
    output = session.output
    start = session.client.position(_STREAM)
    newest = list(session.client.pages(path("events"), query=which, limit=last))[::-1]
    output.note("Waiting for events; Ctrl-C ends it.")
    items = watch(session.client, which, start=start, newest=newest, note=output.note)
    if output.form is Format.TABLE:
        _print_lines(output, items)
    else:
        output.flow(items, lambda item: row(item, output))


def watch(
    client: Client, which: Mapping[str, str], *, start: str, newest: list[msgspec.Raw], note: Callable[[str], None]
) -> Iterator[msgspec.Raw]:
    """Yield `newest`, then for ever each event behind the cursor `start` that matches and is not among these.

    The stream says what there is, in the order of commits, and the list whether it matches. Where we read too slowly
    the stream leaves something out, and is read again from the last event that we had. Raises Unavailable when the
    gateway stays away.
    """
    yield from newest
    shown = {read(item, ListedEvent).id for item in newest}

    def cut(why: str) -> None:
        note(f"{why} Trying again.")

    while True:
        with closing(client.stream(_STREAM, last_event_id=start, cut=cut)) as stream:
            for told in stream:
                if told.event == "gap":
                    break
                start = told.id or start
                event = read(told.data.encode(), ToldEvent) if told.event == "event" else None
                if event and event.event_id not in shown and event.may_match(which):
                    yield from _find(client, which, event.event_id)


def _find(client: Client, which: Mapping[str, str], event_id: uuid.UUID) -> list[msgspec.Raw]:
    """Ask the list for one event, which it gives if that matches; while nobody answers try again, as streams do."""
    moment = moment_of(event_id)
    after = moment + dt.timedelta(milliseconds=1)
    around = {"created_after": moment.isoformat(), "created_before": after.isoformat()}
    for failures in range(RECONNECTS):
        try:
            items = client.pages(path("events"), query={**which, **around}, limit=None)
            return [item for item in items if read(item, ListedEvent).id == event_id]
        except Unavailable:
            time.sleep(min(2**failures, LONGEST_PAUSE_S))
    raise Unavailable(f"{client.origin} streams events, but does not list them.")


def _print_lines(output: Output, items: Iterator[msgspec.Raw]) -> None:
    from rich.text import Text

    console = output.console()
    for item in items:
        at, source, event_type, verdict, reason, size, runs, event_id = map(clean, row(item, output))
        line = Text.assemble((at, "dim"), " ", (f"{verdict:<9}", STATE_STYLES.get(verdict, "")), " ", (source, "bold"))
        line.append("".join(f"  {word}" for word in (event_type, size, runs, reason) if word))
        console.print(line.append(f"  {event_id}", "dim"), soft_wrap=True)
