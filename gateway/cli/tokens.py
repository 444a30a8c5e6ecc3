"""`penstock tokens`: the secrets in the URLs that outside systems call."""

import datetime as dt

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import Session, Span, confirm, connected
from gateway.cli.output import Column, Fields
from schemas.schedules import ShownToken, Token

_COLUMNS = (
    Column("id"),
    Column("label"),
    Column("token"),
    Column("state", "state"),
    Column("created"),
    Column("expires"),
    Column("last used"),
)


@click.group()
def tokens() -> None:
    """Make, rotate and revoke the tokens of a schedule.

    Several tokens of one schedule may live at once, so that a sender can change over without a gap.
    """


@tokens.command()
@click.argument("schedule", metavar="SCHEDULE")
@connected
def ls(session: Session, *, schedule: str) -> None:
    """List the tokens of SCHEDULE (id or number): hints and last use, never the tokens themselves."""
    output, now = session.output, dt.datetime.now(dt.UTC)

    def row(item: msgspec.Raw) -> list[str]:
        token = read(item, Token)
        times = (token.created_at, token.expires_at, token.last_used_at)
        return [str(token.id), token.label, token.hint, _state(token, now), *map(output.moment, times)]

    items = session.client.pages(path("schedules", schedule, "tokens"), query={}, limit=None)
    if not output.listing(items, _COLUMNS, row):
        output.note(f"No tokens yet. Make one: penstock tokens create {schedule}")


@tokens.command()
@click.argument("schedule", metavar="SCHEDULE")
@click.option("--label", default="", help="Which system will use it.")
@click.option("--expires", type=Span(), metavar="SPAN", help="How long it lives, such as 30d; otherwise until revoked.")
@connected
def create(session: Session, *, schedule: str, label: str, expires: dt.timedelta | None) -> None:
    """Make a token for SCHEDULE (id or number) and print it and its URL, this one time.

    \b
    Examples:
    penstock tokens create 7 --label github
    penstock tokens create 7 --expires 30d --json
    """
    body: dict[str, str] = {"label": label}
    if expires is not None:
        body["expires_at"] = (dt.datetime.now(dt.UTC) + expires).isoformat()
    _show_once(session, session.client.fetch("POST", path("schedules", schedule, "tokens"), body=body))


@tokens.command()
@click.argument("token_id", metavar="TOKEN")
@click.option(
    "--grace", type=Span(), default="24h", show_default=True, metavar="SPAN", help="How long the old one lives."
)
@connected
def rotate(session: Session, *, token_id: str, grace: dt.timedelta) -> None:
    """Make a new token in place of TOKEN (its id); the old one stays valid for the grace period."""
    _refuse_secret(token_id)
    body = {"grace_s": int(grace.total_seconds())}
    _show_once(session, session.client.fetch("POST", path("tokens", token_id, "rotate"), body=body))


@tokens.command()
@click.argument("token_id", metavar="TOKEN")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@connected
def revoke(session: Session, *, token_id: str, yes: bool) -> None:
    """Make TOKEN (its id) useless at once; whoever still sends with it gets 404."""
    _refuse_secret(token_id)
    confirm(f"Revoke the token {token_id}?", yes=yes)
    session.client.request("DELETE", path("tokens", token_id))
    session.output.note(f"Token {token_id} is revoked.")


def _show_once(session: Session, raw: bytes) -> None:
    token = read(raw, ShownToken)
    pairs = (
        ("id", str(token.id)),
        ("label", token.label),
        ("expires", session.output.moment(token.expires_at)),
        ("token", token.token),
        ("url", token.url),
    )
    session.output.record(raw, lambda: [Fields(pairs)])
    session.output.note(
        "Store it now: the token is not shown again. Whoever has the URL can start this schedule's pipeline."
    )


def _refuse_secret(token_id: str) -> None:
    if token_id.startswith("pst_"):
        raise click.UsageError("That is a token itself; give its id from `penstock tokens ls SCHEDULE` instead.")


def _state(token: Token, now: dt.datetime) -> str:
    if token.revoked_at:
        return "revoked"
    return "expired" if token.expires_at and token.expires_at <= now else "active"
