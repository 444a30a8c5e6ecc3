"""`penstock search`: finds pipelines, schedules, runs and events by what people remember of them."""

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import Session, connected
from gateway.cli.output import Column
from schemas.overviews import Hit

_COLUMNS = (Column("type"), Column("name"), Column("description"), Column("id"))


class _Hits(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]


@click.command()
@click.argument("text")
@click.option("--limit", type=click.IntRange(1, 100), default=30, show_default=True, help="How many, of all types.")
@connected
def search(session: Session, *, text: str, limit: int) -> None:
    """Find pipelines, schedules, runs and events by name, description, note, run_key, delivery id, type, id or number.

    \b
    Examples:
    penstock search orders
    penstock search 4711
    """

    def row(item: msgspec.Raw) -> list[str]:
        hit = read(item, Hit)
        return [hit.type, hit.name, hit.description, hit.id]

    found = read(session.client.fetch("GET", path("search"), query={"q": text, "limit": limit}), _Hits)
    if not session.output.listing(found.items, _COLUMNS, row):
        session.output.note("Nothing found. What is old is found by its id, number or run_key.")
