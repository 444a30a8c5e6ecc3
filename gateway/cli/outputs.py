"""`penstock runs preview | profile | output`: what a block returned."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import Session, connected
from gateway.cli.output import Column, Fields, Lines, Listing, Part, json_text
from gateway.cli.saving import save
from schemas.previews import Preview
from schemas.profiles import Drift, ShownPreview, ShownProfile

LONGEST_WAIT_S = 150.0  # the gateway may have to read two large outputs, one after the other
_FORMS = ("json", "parquet", "arrow")
_SHOWN_COLUMNS = 12
_LONGEST_CELL = 40
_PROFILE_COLUMNS = (
    Column("column"),
    Column("type"),
    Column("nulls", "number"),
    Column("unique", "number"),
    Column("min"),
    Column("max"),
    Column("mean", "number"),
    Column("samples"),
)
_DRIFT_COLUMNS = (Column("column"), Column("drift"), Column("previous"), Column("now"), Column("severity"))

_item = click.option("--item", type=click.IntRange(min=0), metavar="N", help="Of a mapped block: which item.")


@click.command()
@click.argument("run_id", metavar="ID")
@click.argument("block_id", metavar="BLOCK")
@_item
@connected
def preview(session: Session, *, run_id: str, block_id: str, item: int | None) -> None:
    """Show the first fifty rows of what a block returned, or its value when that is no table."""
    raw = session.client.fetch("GET", path("runs", run_id, "blocks", block_id, "preview"), query={"map_index": item})
    shown = read(raw, ShownPreview)
    session.output.record(raw, lambda: describe_preview(shown))
    if shown.truncated and not session.output.is_json:
        session.output.note(f"Not all of it; have the rest with: penstock runs output {run_id} {block_id}")


@click.command()
@click.argument("run_id", metavar="ID")
@click.argument("block_id", metavar="BLOCK")
@_item
@connected
def profile(session: Session, *, run_id: str, block_id: str, item: int | None) -> None:
    """Describe the columns of the table that a block returned, and how they differ from the run before."""
    where = path("runs", run_id, "blocks", block_id, "profile")
    raw = session.client.patient(LONGEST_WAIT_S).fetch("GET", where, query={"map_index": item})
    session.output.record(raw, lambda: _describe_profile(read(raw, ShownProfile)))


@click.command()
@click.argument("run_id", metavar="ID")
@click.argument("block_id", metavar="BLOCK")
@click.option("-f", "--file", type=click.Path(dir_okay=False, path_type=Path), help="Where to; otherwise stdout.")
@click.option("--as", "form", type=click.Choice(_FORMS), help="As what; otherwise by the end of the file's name.")
@_item
@connected
def output(
    session: Session, *, run_id: str, block_id: str, file: Path | None, form: str | None, item: int | None
) -> None:
    """Download what a block returned, as JSON, or a table as Parquet or Arrow.

    \b
    Examples:
    penstock runs output 12 transform --file rows.parquet
    penstock runs output 12 transform --as json
    """
    suffix = "" if file is None else file.suffix.lstrip(".")
    form = form or (suffix if suffix in _FORMS else "json")
    if file is None and form != "json" and sys.stdout.isatty():
        raise click.UsageError(f"{form} is not for a terminal; use --file.")
    client = session.client.patient(LONGEST_WAIT_S)
    where, query = path("runs", run_id, "blocks", block_id, "output"), {"format": form, "map_index": item}
    chunks = client.download(where, query=query)
    save(chunks, file)
    if file is not None:
        session.output.note(f"{file.stat().st_size:,} bytes in {file}")


def describe_preview(shown: Preview) -> Sequence[Part]:
    """Tell a preview: its rows under their columns, or the value."""
    if shown.columns is None:
        value = None if shown.value is msgspec.UNSET else shown.value
        return [Lines("value", tuple(json_text(msgspec.json.encode(value), indent=2).splitlines()))]
    names = shown.columns[:_SHOWN_COLUMNS]
    rows = [[_cell(row.get(name)) for name in names] for row in shown.rows or ()]
    hidden = len(shown.columns) - len(names)
    parts: list[Part] = [Listing(tuple(map(Column, names)), rows)]
    if hidden:
        parts.append(Fields((("columns not shown", f"{hidden}: {', '.join(shown.columns[_SHOWN_COLUMNS:])}"),)))
    return parts


def _describe_profile(shown: ShownProfile) -> Sequence[Part]:
    about = (
        ("block", shown.block_id),
        ("rows", str(shown.row_count)),
        ("of which read", str(shown.profiled_rows) if shown.sampled else ""),
        ("columns", str(shown.column_count)),
        ("compared with", str(shown.compared_with or "")),
    )
    rows = [
        (
            column.name,
            column.type,
            f"{column.null_pct:g}%",
            "" if column.unique_count is None else str(column.unique_count),
            *map(_cell, (column.min, column.max, column.mean)),
            ", ".join(map(_cell, column.sample_values[:3])),
        )
        for column in shown.columns
    ]
    parts: list[Part] = [Fields(about), Listing(_PROFILE_COLUMNS, rows, "column")]
    if shown.drift:
        parts.append(Listing(_DRIFT_COLUMNS, map(_drift_row, shown.drift), "drift"))
    return parts


def _drift_row(drift: Drift) -> Sequence[str]:
    return drift.column, drift.type, drift.previous or "", drift.current or "", drift.severity


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"
