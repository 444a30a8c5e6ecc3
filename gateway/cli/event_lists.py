"""Which events a command is about, and how one of them is shown in a line."""

import datetime as dt
import functools
from collections.abc import Callable
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import read
from gateway.cli.options import Ago
from gateway.cli.output import Column, Output, size
from schemas.events import ListedEvent
from schemas.states import Verdict

COLUMNS = (
    Column("received", "state"),
    Column("source"),
    Column("type"),
    Column("verdict", "state"),
    Column("reason"),
    Column("size", "number"),
    Column("runs"),
    Column("id", "state"),
)


def filtered(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose events; those given reach it as the API's filter `which`."""

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> None:
        given = {name: options.pop(option) for option, name in _FILTERS.items()}
        which = {name: _text(value) for name, value in given.items() if value is not None}
        function(*args, which=which, **options)

    for decorate in reversed(_options()):
        run = decorate(run)
    return click.option_panel("Which events")(run)


def row(item: msgspec.Raw, output: Output) -> list[str]:
    """Show an event in one line, as COLUMNS say."""
    event = read(item, ListedEvent)
    runs = " ".join(f"#{run.number}" for run in event.runs) + (" ..." if event.has_more_runs else "")
    said = [event.source, event.event_type or "", event.verdict.value, event.reason_code or event.reason or ""]
    return [output.moment(event.received_at), *said, size(event.size), runs, str(event.id)]


_FILTERS = {
    "schedule": "schedule_id",
    "pipeline": "pipeline_id",
    "source": "source",
    "verdict": "verdict",
    "reason_code": "reason_code",
    "event_type": "event_type",
    "dedupe_key": "dedupe_key",
    "since": "created_after",
    "until": "created_before",
    "q": "q",
}


def _options() -> list[Callable[[Callable[..., None]], Callable[..., None]]]:
    option = functools.partial(click.option, panel="Which events")
    return [
        option("--schedule", metavar="ID", help="Only those that reached this schedule."),
        option("--pipeline", help="Only those for this pipeline."),
        option("--source", help="Only what this sender sent: github, stripe, ..."),
        option("--verdict", type=click.Choice([word.value for word in Verdict]), help="Only those judged so."),
        option("--reason-code", metavar="CODE", help="Only those turned away for this: bad_signature, ..."),
        option("--event-type", metavar="TYPE", help="Only those of this type: push, ..."),
        option("--dedupe-key", metavar="KEY", help="Only those with this key, or the sender's id of it."),
        option("--since", type=Ago(), metavar="SPAN|TIME", help="Only what came since then: 2h, 2026-01-31T12:00Z."),
        option("--until", type=Ago(), metavar="SPAN|TIME", help="Only what came before then."),
        option("--q", metavar="TEXT", help="Only those with this text in the beginning of their body."),
    ]


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)
