"""`penstock schedules`: what may start a pipeline, and how."""

from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import JsonObject, Session, confirm, connected, read_stdin
from gateway.cli.output import Column, Fields, Lines, Output, Part, json_text
from schemas.schedules import Schedule
from schemas.settings import MAX_BODY_LIMIT
from schemas.states import OnPaused

_COLUMNS = (
    Column("#", "number"),
    Column("name"),
    Column("pipeline"),
    Column("kind"),
    Column("source"),
    Column("state", "state"),
    Column("created"),
    Column("id"),
)


@click.group()
def schedules() -> None:
    """Say what may start a pipeline; an ID is a schedule's id or its number."""


@schedules.command()
@click.option("--pipeline", help="Only those of this pipeline.")
@connected
def ls(session: Session, *, pipeline: str | None) -> None:
    """List the schedules."""
    output = session.output

    def row(item: msgspec.Raw) -> list[str]:
        schedule = read(item, Schedule)
        names = [str(schedule.number), schedule.name, schedule.pipeline_id, schedule.kind, schedule.source]
        return [*names, _state(schedule), output.moment(schedule.created_at), str(schedule.id)]

    items = session.client.pages(path("schedules"), query={"pipeline_id": pipeline}, limit=None)
    if not output.listing(items, _COLUMNS, row):
        output.note("No schedules. Make one: penstock schedules create --pipeline hello --name first")


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@connected
def show(session: Session, *, schedule_id: str) -> None:
    """Show one schedule; secrets are masked."""
    _print(session.output, session.client.fetch("GET", path("schedules", schedule_id)))


@schedules.command()
@click.option("--pipeline", required=True, help="The pipeline that it starts.")
@click.option("--name", required=True, help="What people call it.")
@click.option("--source", default="generic", show_default=True, help="Which system sends: generic, github, ...")
@click.option("--secret-stdin", is_flag=True, help="Read the sender's signing secret from standard input.")
@click.option("--variables", type=JsonObject(), metavar="JSON|@FILE|-", help="Variables of every run that it starts.")
@click.option("--body-limit", type=click.IntRange(1, MAX_BODY_LIMIT), metavar="BYTES", help="Largest body it takes.")
@click.option("--on-paused", type=click.Choice([word.value for word in OnPaused]), help="What a delivery does then.")
@connected
def create(
    session: Session,
    *,
    pipeline: str,
    name: str,
    source: str,
    secret_stdin: bool,
    variables: dict[str, msgspec.Raw] | None,
    body_limit: int | None,
    on_paused: str | None,
) -> None:
    """Make a schedule that a token can fire; `penstock tokens create` makes the token.

    \b
    Examples:
    penstock schedules create --pipeline hello --name first
    penstock schedules create --pipeline build --name pushes --source github --secret-stdin < secret.txt
    """
    body: dict[str, Any] = {"pipeline_id": pipeline, "name": name, "kind": "api", "source": source}
    if secret_stdin:
        body["source_config"] = {"secrets": [read_stdin("--secret-stdin").strip("\r\n")]}
    optional = {"variables": variables, "body_limit": body_limit, "on_paused": on_paused}
    body |= {field: value for field, value in optional.items() if value is not None}
    raw = session.client.fetch("POST", path("schedules"), body=body)
    _print(session.output, raw)
    session.output.note(f"Next: penstock tokens create {read(raw, Schedule).number}")


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@connected
def pause(session: Session, *, schedule_id: str) -> None:
    """Stop a schedule from starting runs; what deliveries do meanwhile is its `on paused`."""
    _set_paused(session, schedule_id, is_paused=True)


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@connected
def unpause(session: Session, *, schedule_id: str) -> None:
    """Let a schedule start runs again."""
    _set_paused(session, schedule_id, is_paused=False)


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@connected
def rm(session: Session, *, schedule_id: str, yes: bool) -> None:
    """Delete a schedule; its tokens answer 404 from then on, its runs stay."""
    confirm(f"Delete schedule {schedule_id} and its tokens?", yes=yes)
    session.client.request("DELETE", path("schedules", schedule_id))
    session.output.note(f"Schedule {schedule_id} is deleted.")


def _set_paused(session: Session, schedule_id: str, *, is_paused: bool) -> None:
    raw = session.client.fetch("PATCH", path("schedules", schedule_id), body={"is_paused": is_paused})
    _print(session.output, raw)


def _print(output: Output, raw: bytes) -> None:
    output.record(raw, lambda: _describe(read(raw, Schedule), output))


def _describe(schedule: Schedule, output: Output) -> list[Part]:
    def text(value: int | None) -> str:
        return "" if value is None else str(value)

    secrets = len(schedule.source_config.secrets)
    pairs = (
        ("schedule", schedule.name),
        ("number", str(schedule.number)),
        ("id", str(schedule.id)),
        ("pipeline", schedule.pipeline_id),
        ("state", _state(schedule)),
        ("on paused", schedule.on_paused),
        ("kind", schedule.kind),
        ("source", schedule.source),
        ("secrets", f"{secrets} set" if secrets else "none"),
        ("max active runs", text(schedule.max_active_runs)),
        ("body limit", text(schedule.body_limit)),
        ("created", output.moment(schedule.created_at)),
    )
    variables = json_text(bytes(schedule.variables), indent=2)
    return [Fields(pairs), *([] if variables == "{}" else [Lines("variables", tuple(variables.splitlines()))])]


def _state(schedule: Schedule) -> str:
    return "paused" if schedule.is_paused else "active"
