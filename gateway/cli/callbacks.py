"""`penstock callbacks`: whom runs told, how that went, and telling them again."""

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import Session, connected
from gateway.cli.output import Column, Fields, Listing, Output, Part, duration
from schemas.callbacks import Attempt, Callback, CallbackState, SigningSecret, ToldCallback

_COLUMNS = (
    Column("kind"),
    Column("target"),
    Column("reason"),
    Column("state", "state"),
    Column("attempts", "number"),
    Column("created"),
    Column("run"),
    Column("id"),
)
_ATTEMPT_COLUMNS = (
    Column("at"),
    Column("status", "number"),
    Column("duration", "number"),
    Column("error"),
    Column("answer"),
)


@click.group()
def callbacks() -> None:
    """See whom runs told of their end, whether that was heard, and tell them again."""


@callbacks.command()
@click.option("--run", "run_id", metavar="RUN", help="Only those of this run (id or number).")
@click.option("--state", type=click.Choice([state.value for state in CallbackState]), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, newest first.")
@connected
def ls(session: Session, *, run_id: str | None, state: str | None, limit: int) -> None:
    """List callbacks, newest first.

    \b
    Examples:
    penstock callbacks ls --run 12
    penstock callbacks ls --state failed
    """
    output = session.output

    def row(item: msgspec.Raw) -> list[str]:
        callback = read(item, Callback)
        words = [callback.kind, callback.target, callback.reason, callback.state, str(callback.attempts)]
        return [*words, output.moment(callback.created_at), str(callback.run_id), str(callback.id)]

    items = session.client.pages(path("callbacks"), query={"run_id": run_id, "state": state}, limit=limit)
    if not output.listing(items, _COLUMNS, row):
        output.note("No callbacks. A run with a callback_url, or whose schedule or pipeline notifies, makes some.")


@callbacks.command()
@click.argument("callback_id", metavar="ID")
@connected
def show(session: Session, *, callback_id: str) -> None:
    """Show one callback with its newest attempts; secrets in its target are masked."""
    _print(session.output, session.client.fetch("GET", path("callbacks", callback_id)))


@callbacks.command()
@click.argument("callback_id", metavar="ID")
@connected
def resend(session: Session, *, callback_id: str) -> None:
    """Deliver a callback again, now, whatever became of it; its `webhook-id` stays the same."""
    _print(session.output, session.client.fetch("POST", path("callbacks", callback_id, "resend")))


@callbacks.command()
@connected
def secret(session: Session) -> None:
    """Print the secrets by which receivers verify callbacks, the newest first; each callback is signed with all.

    The output is secret.
    """
    items = session.client.pages(path("callbacks", "signing-secrets"), query={}, limit=None)
    if not session.output.listing(items, (Column("secret"),), lambda item: [read(item, SigningSecret).secret]):
        session.output.note("None: set PENSTOCK_SECRET_KEYS, the same for every gateway and runner.")


def _print(output: Output, raw: bytes) -> None:
    output.record(raw, lambda: _describe(read(raw, ToldCallback), output))


def _describe(callback: ToldCallback, output: Output) -> list[Part]:
    pairs = (
        ("callback", str(callback.id)),
        ("run", str(callback.run_id)),
        ("kind", callback.kind),
        ("reason", callback.reason),
        ("target", callback.target),
        ("state", callback.state),
        ("attempts", str(callback.attempts)),
        ("next attempt", output.moment(callback.next_attempt_at)),
        ("delivered", output.moment(callback.delivered_at)),
        ("created", output.moment(callback.created_at)),
    )

    def row(attempt: Attempt) -> list[str]:
        status = "" if attempt.status is None else str(attempt.status)
        took = duration(attempt.duration_ms)
        return [output.moment(attempt.at), status, took, attempt.error or "", attempt.answer]

    return [Fields(pairs), Listing(_ATTEMPT_COLUMNS, list(map(row, callback.history)), "attempt")]
