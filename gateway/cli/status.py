"""`penstock status`: what runs, waits, fails and fires next, and how the installation is."""

import msgspec
import rich_click as click

from gateway.cli.client import path, read, read_error
from gateway.cli.options import Session, connected
from gateway.cli.output import Column, Fields, Listing, Output, Part, duration, size
from schemas.overviews import Dashboard, System

_DAYS = (
    Column("day"),
    Column("success", "number"),
    Column("failed", "number"),
    Column("cancelled", "number"),
    Column("active", "number"),
)
_FAILURES = (Column("#", "number"), Column("pipeline"), Column("failed"), Column("error"))
_FAILING = (Column("pipeline"), Column("failed in 7 days", "number"))
_FIRES = (Column("schedule"), Column("pipeline"), Column("next"), Column("state", "state"))
_RUNNERS = (Column("runner"), Column("state", "state"), Column("runs", "number"), Column("heard of", "number"))


class Status(msgspec.Struct, frozen=True):
    """The answer of `penstock status --json`."""

    dashboard: Dashboard
    system: System


@click.command()
@connected
def status(session: Session) -> None:
    """Show what runs, waits, fails and fires next, and how the installation is."""
    fetched = {name: msgspec.Raw(session.client.fetch("GET", path(name))) for name in ("dashboard", "system")}
    raw = msgspec.json.encode(fetched)
    session.output.record(raw, lambda: _describe(read(raw, Status), session.output))


def _describe(status: Status, output: Output) -> list[Part]:
    dashboard, system = status.dashboard, status.system
    rate = dashboard.success_rate
    waits = "" if system.oldest_queued_age_s is None else duration(system.oldest_queued_age_s * 1000)
    parts: list[Part] = [
        Fields(
            (
                ("running", str(dashboard.running)),
                ("queued", str(dashboard.queued)),
                ("oldest waits", waits),
                ("runs today", str(dashboard.runs_today)),
                ("runs yesterday", str(dashboard.runs_yesterday)),
                ("success in 24 h", "" if rate is None else f"{rate:.1%}"),
                ("rejected today", str(dashboard.rejected_today)),
                ("version", system.version),
                ("database", size(system.database_bytes)),
                ("pipelines", str(system.pipelines)),
                ("doorbell", system.doorbell),
            )
        )
    ]
    return parts + [listing for listing in _listings(dashboard, system, output) if listing.rows]


def _listings(dashboard: Dashboard, system: System, output: Output) -> list[Listing]:
    days = [
        (str(day.date), str(day.success), str(day.failed), str(day.cancelled), str(day.running + day.queued))
        for day in dashboard.trend
    ]
    failures = [
        (str(run.number), run.pipeline_id, output.moment(run.finished_at), _why(run.error))
        for run in dashboard.last_failures
    ]
    fires = [
        (fire.name, fire.pipeline_id, output.moment(fire.due_at), "paused" if fire.is_paused else "active")
        for fire in dashboard.next_fires
    ]
    runners = [
        (
            runner.name,
            "active" if runner.is_alive else "broken",
            str(runner.active_runs),
            duration(runner.heartbeat_age_s * 1000),
        )
        for runner in system.runners
    ]
    return [
        Listing(_DAYS, days, "day"),
        Listing(_FAILURES, failures, "failure"),
        Listing(_FAILING, [(one.pipeline_id, str(one.failed)) for one in dashboard.top_failing], "failing"),
        Listing(_FIRES, fires, "fire"),
        Listing(_RUNNERS, runners, "runner"),
    ]


def _why(error: msgspec.Raw) -> str:
    found = read_error(error)
    return f"{found.type}: {found.message}" if found else ""
