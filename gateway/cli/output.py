"""What client commands print: the API's objects as JSON, tables on a terminal, tab-separated lines for programs.

Data goes to stdout, everything said about it to stderr. Text that a server sent is cleaned before it is shown, so that
neither a payload nor a log line can send escape sequences to somebody's terminal.
"""

import datetime as dt
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import msgspec
import rich_click as click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_SPACING = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_IN_JSON = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")

STATE_STYLES = {
    "queued": "yellow",
    "running": "bold cyan",
    "success": "green",
    "failed": "bold red",
    "cancelled": "magenta",
    "pending": "dim",
    "skipped": "dim",
    "upstream_failed": "red",
    "active": "green",
    "completed": "green",
    "paused": "yellow",
    "broken": "bold red",
    "ended": "dim",
    "delivered": "green",
    "accepted": "green",
    "duplicate": "dim",
    "filtered": "yellow",
    "handshake": "cyan",
    "rejected": "bold red",
    "expired": "dim",
    "revoked": "dim",
    "debug": "dim",
    "info": "cyan",
    "warning": "yellow",
    "error": "bold red",
}


class Format(StrEnum):
    """How a command prints its answer."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    PLAIN = "plain"


class Column(msgspec.Struct, frozen=True):
    """One column of a listing; a `state` column shows its word in the colour of that state."""

    title: str
    kind: Literal["text", "number", "state"] = "text"


class Fields(msgspec.Struct, frozen=True):
    """Names with one value each; on a terminal, fields without a value are left out."""

    pairs: tuple[tuple[str, str], ...]


class Listing(msgspec.Struct, frozen=True):
    """Rows under columns; in plain output each row begins with `name`, if there is one."""

    columns: tuple[Column, ...]
    rows: Iterable[Sequence[str]]
    name: str = ""


class Lines(msgspec.Struct, frozen=True):
    """Text of several lines under a heading; the lines may be indented."""

    name: str
    lines: tuple[str, ...]


Part = Fields | Listing | Lines


class Output:
    """Prints the answer of one command in the format that was asked for."""

    def __init__(self, form: Format | None = None, *, utc: bool = False, color: bool = True) -> None:
        self.is_terminal = sys.stdout.isatty()
        self.form = form or (Format.TABLE if self.is_terminal else Format.PLAIN)
        self.utc = utc
        self._color = color
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")

    @property
    def is_json(self) -> bool:
        return self.form in (Format.JSON, Format.JSONL)

    def record(self, raw: bytes, parts: Callable[[], Sequence[Part]]) -> None:
        """Print one object: `raw` as JSON, or the parts that describe it."""
        if self.is_json:
            self.data(json_text(raw, indent=2 if self.form is Format.JSON else -1))
        elif self.form is Format.PLAIN:
            for line in _plain_lines(parts()):
                self.data(line)
        else:
            self._show(parts())

    def listing(
        self, items: Iterable[msgspec.Raw], columns: tuple[Column, ...], row: Callable[[msgspec.Raw], Sequence[str]]
    ) -> int:
        """Print objects one per row, as one JSON array or as JSON lines, and say how many there were."""
        if self.form in (Format.JSONL, Format.PLAIN):
            return self.flow(items, row)
        shown = list(items)
        if self.form is Format.JSON:
            self.data(json_text(b"[" + b",".join(map(bytes, shown)) + b"]", indent=2))
        elif shown:
            self._show([Listing(columns, map(row, shown))])
        return len(shown)

    def flow(self, items: Iterable[msgspec.Raw], row: Callable[[msgspec.Raw], Sequence[str]]) -> int:
        """Print objects as they come, one line each: as JSON if that was asked for, else tab-separated."""
        count = 0
        for item in items:
            self.data(json_text(bytes(item), indent=-1) if self.is_json else tsv(row(item)))
            count += 1
        return count

    def remark(self, count: int, limit: int | None, nothing: str = "") -> None:
        """Say under a list that it is empty or, when it has as many as its `limit`, that there may be more."""
        if not count and nothing:
            self.note(nothing)
        elif count and count == limit and self.form is Format.TABLE:
            self.note(f"The newest {limit}; see more with --limit or --all.")

    def data(self, line: str) -> None:
        """Print one line that is already in the right format."""
        click.echo(line)

    def note(self, text: str) -> None:
        """Tell the person at the terminal something that is no data."""
        click.echo(text, err=True)

    def moment(self, at: dt.datetime | None) -> str:
        """Show a time in local time with its offset, or in UTC if asked; nothing for None."""
        return moment(at, utc=self.utc)

    def console(self) -> "Console":
        """Make a rich console on stdout; it is interactive only on a real terminal, whatever FORCE_COLOR says."""
        from rich.console import Console  # 40 ms that JSON and plain output do not pay

        dumb = not self.is_terminal or Console().is_dumb_terminal
        return Console(highlight=False, force_interactive=not dumb, no_color=None if self._color else True)

    def _show(self, parts: Sequence[Part]) -> None:
        console = self.console()
        for number, part in enumerate(parts):
            if number:
                console.print()
            for renderable in _renderables(part):
                console.print(renderable, soft_wrap=not isinstance(part, Listing | Fields))


def clean(text: str) -> str:
    """Put `text` on one line without control characters, escape sequences or reversals of writing direction."""
    return _CONTROL.sub("", _SPACING.sub(" ", text))


def json_text(raw: bytes, *, indent: int) -> str:
    """Lay out JSON without changing a value; characters that steer a terminal become escapes. -1 makes one line."""
    laid_out = msgspec.json.format(raw, indent=indent).decode(errors="replace")
    return _CONTROL_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", laid_out)


def tsv(cells: Iterable[str]) -> str:
    """Join cells by tabs."""
    return "\t".join(clean(cell) for cell in cells)


def duration(milliseconds: float | None) -> str:
    """Show a time span as people say it: 340 ms, 1.2 s, 3 m 02 s, 2 h 05 m, 4 d 03 h; nothing for None."""
    if milliseconds is None:
        return ""
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f} s"
    seconds = round(milliseconds / 1000)
    for size, unit, smaller_size, smaller_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // smaller_size:02d} {smaller_unit}"
    return f"{seconds // 60} m {seconds % 60:02d} s"


def size(count: int) -> str:
    """Show a number of bytes as people say it."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_SIZES[unit]}" if unit == 0 or value >= 10 else f"{value:.1f} {_SIZES[unit]}"


def between(start: dt.datetime | None, end: dt.datetime | None) -> str:
    """Show how long something took; nothing unless it has both begun and ended."""
    return duration((end - start).total_seconds() * 1000) if start and end else ""


def moment(at: dt.datetime | None, *, utc: bool = False) -> str:
    """Show a time as `2026-11-20 10:40:12 +01:00`; nothing for None."""
    if at is None:
        return ""
    return at.astimezone(dt.UTC if utc else None).isoformat(" ", "seconds").replace("+", " +")


def show_fields(fields: msgspec.Raw) -> str:
    """Show a JSON object, the fields of a log line, as `name=value`; values stay JSON unless they are plain words."""
    try:
        members = msgspec.json.decode(fields, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return bytes(fields).decode(errors="replace")
    return " ".join(f"{name}={_show_value(bytes(value).decode())}" for name, value in members.items())


def _show_value(text: str) -> str:
    return text[1:-1] if re.fullmatch(r'"[^\\"\s=]+"', text) else text


def _plain_lines(parts: Iterable[Part]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Fields):
            yield from map(tsv, part.pairs)
        elif isinstance(part, Listing):
            for row in part.rows:
                yield tsv([part.name, *row] if part.name else row)
        else:
            for line in part.lines:
                yield tsv((part.name, line))


def _renderables(part: Part) -> "Iterator[RenderableType]":
    from rich.text import Text

    if isinstance(part, Fields):
        yield _field_grid(part)
    elif isinstance(part, Listing):
        yield _table(part)
    else:
        yield Text(part.name, "bold")
        for line in part.lines:
            yield Text("  " + clean(line))


def _field_grid(part: Fields) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in part.pairs:
        if value:
            style = STATE_STYLES.get(value, "") if name == "state" else ""
            grid.add_row(Text(name, "dim"), Text(clean(value), style, overflow="fold"))
    return grid


def _table(part: Listing) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in part.columns:
        is_text = column.kind == "text"
        table.add_column(column.title, justify="right" if column.kind == "number" else "left", no_wrap=not is_text)
    for row in part.rows:
        styled = zip(row, part.columns, strict=True)
        table.add_row(
            *(
                Text(clean(cell), STATE_STYLES.get(cell, "") if c.kind == "state" else "", overflow="fold")
                for cell, c in styled
            )
        )
    return table
