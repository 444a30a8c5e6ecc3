"""`penstock runs logs`: what the blocks of a run wrote, as it is stored, as it comes, or as a file."""

import datetime as dt
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import PAGE_SIZE, Client, path, read
from gateway.cli.options import Session, Span, connected
from gateway.cli.output import STATE_STYLES, Format, Output, clean, show_fields
from gateway.cli.saving import save
from schemas.runs import LogLine
from schemas.states import LogLevel


class StreamedLine(LogLine, frozen=True, kw_only=True):
    """A log line as an event of a stream, which leaves out what is empty."""

    block_id: str | None = None
    fields: msgspec.Raw = msgspec.Raw(b"{}")


@click.command()
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


def label(block_id: str, map_index: int | None) -> str:
    """Name a block, or one item of a mapped block."""
    return block_id if map_index is None else f"{block_id}[{map_index}]"


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
    save(session.client.download(path("runs", run_id, "logs", "export"), query=wanted.query), file)
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
