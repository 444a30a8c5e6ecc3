"""`penstock audit`: who did what, and when."""

import datetime as dt

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import Session, Span, connected
from gateway.cli.output import Column, show_fields
from schemas.audit import Action, AuditEntry

_COLUMNS = (Column("at"), Column("caller"), Column("role"), Column("action"), Column("subject"), Column("details"))


@click.command()
@click.option("--subject", help="Only what was done to this, such as run:ID or pipeline:ID.")
@click.option("--action", type=click.Choice([action.value for action in Action]), help="Only this.")
@click.option("--caller", help="Only what the key of this name did.")
@click.option("--since", type=Span(), metavar="SPAN", help="Only the newest, such as 24h.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, newest first.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@connected
def audit(
    session: Session,
    *,
    subject: str | None,
    action: str | None,
    caller: str | None,
    since: dt.timedelta | None,
    limit: int,
    everything: bool,
) -> None:
    """List what people did, newest first; it takes an admin's key.

    \b
    Examples:
    penstock audit --since 24h
    penstock audit --action run.mark -o jsonl
    """
    output = session.output

    def row(item: msgspec.Raw) -> list[str]:
        entry = read(item, AuditEntry)
        at, details = output.moment(entry.at), show_fields(entry.details)
        return [at, entry.caller, entry.role, entry.action, entry.subject, details]

    query = {"subject": subject, "action": action, "caller": caller, "created_after": _before_now(since)}
    most = None if everything else limit
    output.remark(output.listing(session.client.pages(path("audit"), query=query, limit=most), _COLUMNS, row), most)


def _before_now(span: dt.timedelta | None) -> str | None:
    return None if span is None else (dt.datetime.now(dt.UTC) - span).isoformat()
