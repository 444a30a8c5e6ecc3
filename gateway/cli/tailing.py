"""`penstock events tail`: new events as they come."""

import datetime as dt
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import rich_click as click

from gateway.cli.client import LONGEST_PAUSE_S, PAGE_SIZE, Client, path, read
from gateway.cli.event_lists import filtered, row
from gateway.cli.options import Session, connected
from gateway.cli.output import STATE_STYLES, Format, Output, clean
from schemas.errors import Unavailable
from schemas.events import ListedEvent
from schemas.ids import moment_of

POLL_S = 1.0
OVERLAP_S = 15.0
TRIES = 30


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
    items = _watch(Newcomers(session.client, which), output, last=last)
    output.note("Waiting for events; Ctrl-C ends it.")
    if output.form is Format.TABLE:
        _print_lines(output, items)
    else:
        output.flow(items, lambda item: row(item, output))


class Newcomers:
    """Finds the events that were not there before, each once.

    Events are committed a little later than they get their ids, and not in the order of these. So each look goes back
    OVERLAP behind the gateway's present, and knows what was there. Only what is committed even later is missed. The
    present is read from the time in the newest id, and goes on by our own clock.
    """

    def __init__(self, client: Client, which: Mapping[str, str]) -> None:
        self._client = client
        self._which = which
        self._ahead_s: float | None = None  # how far the gateway's clock is ahead of our monotonic one, at least
        self._seen: dict[uuid.UUID, float] = {}
        self.look()

    def newest(self, count: int) -> list[msgspec.Raw]:
        """Return the newest events of before, oldest first."""
        items = list(self._client.pages(path("events"), query=self._which, limit=count))
        self._remember(read(item, ListedEvent).id for item in items)
        return items[::-1]

    def look(self) -> list[msgspec.Raw]:
        """Return what came since the last look, oldest first."""
        if self._ahead_s is None:
            newest = self._client.pages(path("events"), query={}, limit=1)
            self._follow_clock(read(item, ListedEvent).id for item in newest)
        items = {
            read(item, ListedEvent).id: item
            for item in self._client.pages(path("events"), query=self._query(), limit=None)
        }
        new = [found for found in items if found not in self._seen]
        self._remember(new)
        return [items[found] for found in reversed(new)]

    def _query(self) -> dict[str, str]:
        if self._ahead_s is None:
            return dict(self._which)
        since = dt.datetime.fromtimestamp(self._since(), dt.UTC).isoformat()
        return {**self._which, "created_after": since}

    def _since(self) -> float:
        return time.monotonic() + (self._ahead_s or 0) - OVERLAP_S

    def _remember(self, found: Iterable[uuid.UUID]) -> None:
        self._seen |= {event_id: moment_of(event_id).timestamp() for event_id in found}
        self._follow_clock(self._seen)
        since = self._since()
        self._seen = {event_id: at for event_id, at in self._seen.items() if at >= since - 1}

    def _follow_clock(self, found: Iterable[uuid.UUID]) -> None:
        ahead = [moment_of(event_id).timestamp() - time.monotonic() for event_id in found]
        known = [] if self._ahead_s is None else [self._ahead_s]
        self._ahead_s = max(ahead + known, default=None)


def _watch(newcomers: Newcomers, output: Output, *, last: int) -> Iterator[msgspec.Raw]:
    """Yield what is new, for ever; raises Unavailable when the gateway stays away."""
    yield from newcomers.newest(last) if last else ()
    failures = 0
    while True:
        try:
            yield from newcomers.look()
            failures = 0
        except Unavailable as error:
            failures += 1
            if failures == 1:
                output.note(f"{error.message.splitlines()[0]} Trying again.")
            if failures > TRIES:
                raise
        time.sleep(min(POLL_S * max(1, failures), LONGEST_PAUSE_S))


def _print_lines(output: Output, items: Iterator[msgspec.Raw]) -> None:
    from rich.text import Text

    console = output.console()
    for item in items:
        at, source, event_type, verdict, reason, size, runs, event_id = map(clean, row(item, output))
        line = Text.assemble((at, "dim"), " ", (f"{verdict:<9}", STATE_STYLES.get(verdict, "")), " ", (source, "bold"))
        line.append("".join(f"  {word}" for word in (event_type, size, runs, reason) if word))
        console.print(line.append(f"  {event_id}", "dim"), soft_wrap=True)
