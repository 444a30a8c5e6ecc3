"""`penstock runs resume|rerun|mark`: what people do to a run that has ended, or that shall be taken for it."""

from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import JsonObject, Session, connected, read_params
from gateway.cli.runs import await_end, describe, runs
from schemas.runs import Run

_NOTE = click.option("--note", help="Why; shown with the run, and kept in the audit trail.")
_WAIT = click.option("--wait", is_flag=True, help="Watch the new run; exit 7 if it does not succeed.")


@runs.command()
@click.argument("run_id", metavar="ID")
@_NOTE
@_WAIT
@connected
def resume(session: Session, *, run_id: str, note: str | None, wait: bool) -> None:
    """Go on with a failed or cancelled run, as a new one that skips the blocks that succeeded."""
    _begin(session, run_id, "resume", {} if note is None else {"note": note}, wait=wait)


@runs.command()
@click.argument("run_id", metavar="ID")
@click.option("-d", "--data", type=JsonObject(), metavar="JSON|@FILE|-", help="All variables anew, as a JSON object.")
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="One variable otherwise than before."
)
@_NOTE
@_WAIT
@connected
def rerun(
    session: Session,
    *,
    run_id: str,
    data: dict[str, msgspec.Raw] | None,
    params: tuple[str, ...],
    note: str | None,
    wait: bool,
) -> None:
    """Run an ended run again from its first block, with the same variables or with others.

    \b
    Examples:
    penstock runs rerun 12
    penstock runs rerun 12 -p region=eu --wait
    """
    body: dict[str, Any] = {} if note is None else {"note": note}
    if params and data is None:
        old = read(session.client.fetch("GET", path("runs", run_id)), Run)
        data = read(old.variables, dict[str, msgspec.Raw])
    if data is not None:
        body["variables"] = data | read_params(params)
    _begin(session, run_id, "rerun", body, wait=wait)


@runs.command()
@click.argument("run_id", metavar="ID")
@click.argument("state", type=click.Choice(["success", "failed"]))
@_NOTE
@connected
def mark(session: Session, *, run_id: str, state: str, note: str | None) -> None:
    """Say by hand that a run succeeded or failed; what executes of it is stopped.

    \b
    Example:
    penstock runs mark 12 success --note "the file was loaded by hand"
    """
    body = {"state": state} | ({} if note is None else {"note": note})
    raw = session.client.fetch("POST", path("runs", run_id, "mark"), body=body)
    session.output.record(raw, lambda: describe(read(raw, Run), session.output)[:1])


def _begin(session: Session, run_id: str, verb: str, body: dict[str, Any], *, wait: bool) -> None:
    raw = session.client.fetch("POST", path("runs", run_id, verb), body=body)
    run = read(raw, Run)
    if wait:
        await_end(session, run, timeout=None)
    else:
        session.output.record(raw, lambda: describe(run, session.output)[:1])
        session.output.note(f"Watch it: penstock runs watch {run.id}")
