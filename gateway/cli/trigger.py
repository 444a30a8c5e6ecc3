"""`penstock trigger`: start a run by hand, and wait for it if asked."""

import datetime as dt
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import JsonObject, Session, connected, read_params
from gateway.cli.runs import await_end, describe
from schemas.runs import Run


class _Moment(click.ParamType[dt.datetime]):
    """A date or time in ISO 8601; without an offset it is local time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        try:
            return dt.datetime.fromisoformat(str(value)).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time; write 2026-11-20 or 2026-11-20T10:00:00+01:00.", param, ctx)


@click.command()
@click.argument("pipeline_id", metavar="PIPELINE")
@click.option("-d", "--data", type=JsonObject(), metavar="JSON|@FILE|-", help="The variables as a JSON object.")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="One variable; JSON or else text.")
@click.option("--run-key", help="Start at most one run with this key: repeating it is refused.")
@click.option("--note", help="Why; shown with the run.")
@click.option("--logical-date", type=_Moment(), help="The moment that the run stands for.")
@click.option("--callback-url", metavar="URL", help="Where to POST what became of the run.")
@click.option("--wait", is_flag=True, help="Watch the run; exit 7 if it does not succeed.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="With --wait: then exit 8."
)
@connected
def trigger(
    session: Session,
    *,
    pipeline_id: str,
    data: dict[str, msgspec.Raw] | None,
    params: tuple[str, ...],
    run_key: str | None,
    note: str | None,
    logical_date: dt.datetime | None,
    callback_url: str | None,
    wait: bool,
    timeout: float | None,
) -> None:
    """Start a run of PIPELINE with these variables.

    \b
    Examples:
    penstock trigger hello
    penstock trigger hello -d '{"name": "Ada"}' --wait
    penstock trigger hello -d @variables.json -p retries=3 -p region=eu
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait.")
    body: dict[str, Any] = {"variables": (data or {}) | read_params(params)}
    optional = {"run_key": run_key, "note": note, "logical_date": logical_date, "callback_url": callback_url}
    body |= {name: value for name, value in optional.items() if value is not None}
    raw = session.client.fetch("POST", path("pipelines", pipeline_id, "runs"), body=body)
    run = read(raw, Run)
    if wait:
        await_end(session, run, timeout=timeout)
    else:
        session.output.record(raw, lambda: describe(run, session.output)[:1])
        session.output.note(f"Watch it: penstock runs watch {run.id}")
