"""`penstock schedules`: what may start a pipeline, and how."""

import datetime as dt
import functools
from collections.abc import Callable
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import JsonObject, Session, Span, confirm, connected, read_stdin
from gateway.cli.output import Column, Fields, Lines, Output, Part, duration, json_text
from gateway.cli.rules import describe_rules, read_rules, rule_options
from schemas.firing import ClockStatus, Slot
from schemas.schedules import Schedule
from schemas.settings import MAX_BODY_LIMIT
from schemas.states import OnPaused, Overlap, ScheduleKind
from schemas.timetables import find_zone

_COLUMNS = (
    Column("#", "number"),
    Column("name"),
    Column("pipeline"),
    Column("kind"),
    Column("source"),
    Column("state", "state"),
    Column("next"),
    Column("created"),
    Column("id"),
)


_SLOT_COLUMNS = (Column("slot"), Column("due"))
_STATUS_COLUMNS = (
    Column("#", "number"),
    Column("name"),
    Column("pipeline"),
    Column("when"),
    Column("state", "state"),
    Column("next"),
    Column("last fired"),
    Column("skipped", "number"),
    Column("late", "number"),
)


class _Slots(msgspec.Struct):
    items: list[msgspec.Raw]


def _time_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a schedule that the clock starts."""
    option = functools.partial(click.option, panel="Fired by the clock")
    for decorate in (
        option("--overlap", type=click.Choice([word.value for word in Overlap]), help="If the previous run is active."),
        option("--jitter", "jitter_s", type=Span(), metavar="SPAN", help="Fire up to so much later, to spread load."),
        option("--catchup", is_flag=True, help="Fire every slot that was missed, not only the newest one."),
        option("--end", metavar="TIME", help="Do not fire after it."),
        option("--start", metavar="TIME", help="Do not fire before it; without an offset it is of --timezone."),
        option("--timezone", metavar="ZONE", help="The IANA time zone of --cron; otherwise UTC."),
        option("--every", "every_s", type=Span(), metavar="SPAN", help="An interval, such as 15m."),
        option("--cron", help='A cron, such as "0 3 * * *", or @daily.'),
    ):
        function = decorate(function)
    return function


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
        names = [str(schedule.number), schedule.name, schedule.pipeline_id, schedule.kind]
        times = [output.moment(schedule.next_fire_at), output.moment(schedule.created_at)]
        return [*names, _when(schedule) or schedule.source, _state(schedule), *times, str(schedule.id)]

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
@click.option("--source-config", type=JsonObject(), metavar="JSON|@FILE|-", help="More that verifying needs.")
@click.option("--variables", type=JsonObject(), metavar="JSON|@FILE|-", help="Variables of every run that it starts.")
@click.option("--body-limit", type=click.IntRange(1, MAX_BODY_LIMIT), metavar="BYTES", help="Largest body it takes.")
@click.option("--on-paused", type=click.Choice([word.value for word in OnPaused]), help="What a delivery does then.")
@click.option("--max-active-runs", type=click.IntRange(1), metavar="N", help="How many of its runs execute at once.")
@click.option("--run-timeout", "run_timeout_s", type=Span(), metavar="SPAN", help="How long a run may execute.")
@click.option("--max-queue-age", "max_queue_age_s", type=Span(), metavar="SPAN", help="How long a run may wait.")
@click.option("--sla", "sla_s", type=Span(), metavar="SPAN", help="How long a run may take before people are told.")
@rule_options
@_time_options
@connected
def create(
    session: Session,
    *,
    secret_stdin: bool,
    start: str | None,
    end: str | None,
    mapped: tuple[str, ...],
    filter: str | None,  # noqa: A002 - the option's name
    dedupe: str | None,
    split: bool | None,
    **given: Any,
) -> None:
    """Make a schedule that a token can fire, or with --cron or --every the clock.

    \b
    Examples:
    penstock schedules create --pipeline hello --name first
    penstock schedules create --pipeline build --name pushes --source github --secret-stdin < secret.txt
    penstock schedules create --pipeline build --name main --filter "body.ref == 'refs/heads/main'" --map sha=body.after
    penstock schedules create --pipeline report --name nightly --cron "0 3 * * *" --timezone Europe/Paris
    penstock schedules create --pipeline poll --name often --every 15m --overlap skip
    """
    fields = {name: _seconds(value) for name, value in given.items() if value is not None and value is not False}
    kind = "time" if fields.keys() & {"cron", "every_s"} else "api"
    if kind == "time" and fields["source"] == "generic":
        del fields["source"]
    body: dict[str, Any] = {"pipeline_id": fields.pop("pipeline"), "kind": kind} | fields
    body |= read_rules(mapped, filter=filter, dedupe=dedupe, split=split)
    for name, text in (("start_at", start), ("end_at", end)):
        if text is not None:
            body[name] = _moment(text, given["timezone"] or "UTC")
    if secret_stdin:
        secrets = {"secrets": [read_stdin("--secret-stdin").strip("\r\n")]}
        body["source_config"] = body.get("source_config", {}) | secrets
    raw = session.client.fetch("POST", path("schedules"), body=body)
    _print(session.output, raw)
    made = read(raw, Schedule)
    upcoming = session.output.moment(made.next_fire_at)
    session.output.note(f"It fires next at {upcoming}." if upcoming else f"Next: penstock tokens create {made.number}")


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@click.option("--name", help="What people call it.")
@click.option("--variables", type=JsonObject(), metavar="JSON|@FILE|-", help="Variables of every run that it starts.")
@rule_options
@connected
def edit(
    session: Session,
    *,
    schedule_id: str,
    name: str | None,
    variables: dict[str, msgspec.Raw] | None,
    mapped: tuple[str, ...],
    **rules: str | bool | None,
) -> None:
    """Change a schedule; what is not named stays, and an empty expression is taken away.

    \b
    Examples:
    penstock schedules edit 1 --filter "body.action in ['opened', 'reopened']"
    penstock schedules edit 1 --filter "" --map branch= --map sha=body.after
    """
    place = path("schedules", schedule_id)
    read_rules(mapped)  # what is mistyped is said before anything is asked
    old = read(session.client.fetch("GET", place), Schedule).mapping if mapped else {}
    named = {"name": name, "variables": variables}
    body = {field: value for field, value in named.items() if value is not None} | read_rules(mapped, old=old, **rules)
    if not body:
        raise click.UsageError("Say what to change; see --help.")
    _print(session.output, session.client.fetch("PATCH", place, body=body))


@schedules.command(name="next")
@click.argument("schedule_id", metavar="ID")
@click.option("--count", type=click.IntRange(1, 100), default=10, show_default=True, help="How many.")
@connected
def upcoming(session: Session, *, schedule_id: str, count: int) -> None:
    """Show when a schedule fires next."""
    output = session.output

    def row(item: msgspec.Raw) -> list[str]:
        slot = read(item, Slot)
        return [output.moment(slot.slot), output.moment(slot.due_at)]

    raw = session.client.fetch("GET", path("schedules", schedule_id, "next"), query={"count": count})
    if not output.listing(read(raw, _Slots).items, _SLOT_COLUMNS, row):
        output.note(f"Schedule {schedule_id} has ended.")


@schedules.command()
@click.option("--pipeline", help="Only those of this pipeline.")
@connected
def status(session: Session, *, pipeline: str | None) -> None:
    """Show what fires when: the schedules with a cron or an interval, the next one first."""
    output = session.output

    def row(item: msgspec.Raw) -> list[str]:
        clock = read(item, ClockStatus)
        state = "paused" if clock.is_paused else "active" if clock.next_fire_at else "ended"
        times = [output.moment(clock.next_fire_at), output.moment(clock.last_fired_at)]
        lag = duration(clock.lag_s * 1000) if clock.lag_s else ""
        return [str(clock.number), clock.name, clock.pipeline_id, _when(clock), state, *times, str(clock.skipped), lag]

    items = session.client.pages(path("scheduler"), query={"pipeline_id": pipeline}, limit=None)
    if not output.listing(items, _STATUS_COLUMNS, row):
        output.note("No schedule fires by the clock. Make one: penstock schedules create --help")


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@connected
def pause(session: Session, *, schedule_id: str) -> None:
    """Stop a schedule from starting runs; what deliveries do meanwhile is its `on paused`, its clock stands."""
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
    pairs = (
        ("schedule", schedule.name),
        ("number", str(schedule.number)),
        ("id", str(schedule.id)),
        ("pipeline", schedule.pipeline_id),
        ("state", _state(schedule)),
        ("on paused", schedule.on_paused),
        ("kind", schedule.kind),
        *(_describe_clock(schedule, output) if schedule.kind is ScheduleKind.TIME else _describe_source(schedule)),
        ("max active runs", _text(schedule.max_active_runs)),
        ("run timeout", _span(schedule.run_timeout_s)),
        ("max queue age", _span(schedule.max_queue_age_s)),
        ("sla", _span(schedule.sla_s)),
        ("created", output.moment(schedule.created_at)),
    )
    variables = json_text(bytes(schedule.variables), indent=2)
    shown = [] if variables == "{}" else [Lines("variables", tuple(variables.splitlines()))]
    return [Fields(pairs), *describe_rules(schedule), *shown]


def _describe_source(schedule: Schedule) -> list[tuple[str, str]]:
    secrets = len(schedule.source_config.secrets)
    return [
        ("source", schedule.source),
        ("secrets", f"{secrets} set" if secrets else "none"),
        ("body limit", _text(schedule.body_limit)),
    ]


def _describe_clock(schedule: Schedule, output: Output) -> list[tuple[str, str]]:
    return [
        ("when", _when(schedule)),
        ("next", output.moment(schedule.next_fire_at) or "never"),
        ("last fired", output.moment(schedule.last_fired_at)),
        ("start", output.moment(schedule.start_at)),
        ("end", output.moment(schedule.end_at)),
        ("catch up", "every missed slot" if schedule.catchup else "the newest missed slot"),
        ("jitter", _span(schedule.jitter_s or None)),
        ("overlap", schedule.overlap),
    ]


def _when(schedule: Schedule | ClockStatus) -> str:
    """Show what a schedule says about time; nothing if a token fires it."""
    if schedule.cron is not None:
        return f"{schedule.cron} ({schedule.timezone})"
    return "" if schedule.every_s is None else f"every {duration(schedule.every_s * 1000)}"


def _seconds(value: Any) -> Any:
    """Give a time span in the API's unit, and anything else as it is."""
    return int(value.total_seconds()) if isinstance(value, dt.timedelta) else value


def _moment(text: str, zone: str) -> dt.datetime:
    """Read a time that was typed; without an offset it is of the schedule's zone."""
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=find_zone(zone)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is not a time; write 2026-11-20 or 2026-11-20T10:00:00+01:00.") from None


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _span(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds * 1000)


def _state(schedule: Schedule) -> str:
    return "paused" if schedule.is_paused else "active"
