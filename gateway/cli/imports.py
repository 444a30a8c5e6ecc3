"""`penstock import`: take over from another product what starts its pipelines."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click
from click.exceptions import Exit

from gateway.cli.client import Client, path, read
from gateway.cli.options import Session, connected
from gateway.cli.output import Column
from gateway.credentials import hint, is_foreign
from gateway.moving import Mapped
from gateway.moving.airflow import dags_of, map_dag
from gateway.moving.mage import map_trigger
from schemas.errors import Conflict, Invalid, NotFound
from schemas.schedules import Schedule
from schemas.states import ScheduleKind

_COLUMNS = (
    Column("#", "number"),
    Column("name"),
    Column("pipeline"),
    Column("kind"),
    Column("schedule"),
    Column("token"),
    Column("what differs"),
)
_LEFT_OUT = "left out"
_UNSAID = ("description", "envs", "global_data_product_uuid")


class Imported(msgspec.Struct):
    """What became of one trigger or DAG; `notes` say what is otherwise than it was."""

    name: str
    pipeline_id: str
    kind: str
    schedule: str = _LEFT_OUT
    number: int | None = None
    token: str = "none"  # noqa: S105 - a word
    notes: list[str] = []


@click.group(name="import")
def import_() -> None:
    """Take schedules and their tokens over from another product, so that senders need not change their URLs."""


@import_.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--pipeline", help="Whose triggers they are; otherwise each says so, or the folder of FILE is its name.")
@click.option("--dry-run", is_flag=True, help="Only say what would be made.")
@connected
def mage(session: Session, *, file: Path, pipeline: str | None, dry_run: bool) -> None:
    """Make a schedule of each trigger in Mage's triggers.yaml, and let its token fire it.

    Tokens are not printed, and only their SHA-256 leaves this machine. What exists under its name already is left as it
    is, so that the same file may be imported again. Exits with 1 if a trigger was left out.

    \b
    Examples:
    penstock import mage pipelines/orders/triggers.yaml --dry-run
    penstock import mage triggers.yaml --pipeline orders
    """
    triggers = _read(file)
    found = [_take(session.client, _pipeline_of(each, pipeline, file), each, dry_run=dry_run) for each in triggers]
    _show(session, found, none=f"{file} has no triggers.")


@import_.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say what would be made.")
@connected
def airflow(session: Session, *, file: Path, dry_run: bool) -> None:
    """Make a schedule of each DAG that has a clock, from a list of DAGs as Airflow's API or its command line gives it.

    No DAG is read or executed: pipelines of the same ids must be here. What exists already is left as it is, so that
    the same file may be imported again. Exits with 1 if a DAG was left out.

    \b
    Examples:
    curl -u user:password https://airflow.example.com/api/v1/dags > dags.json
    penstock import airflow dags.json --dry-run
    """
    found = [_take_dag(session.client, dag, dry_run=dry_run) for dag in _read_dags(file)]
    _show(session, found, none=f"{file} has no DAGs.")


def _show(session: Session, found: list[Imported], *, none: str) -> None:
    items = (msgspec.Raw(msgspec.json.encode(each)) for each in found)
    if not session.output.listing(items, _COLUMNS, _row):
        session.output.note(none)
    if any(each.schedule == _LEFT_OUT for each in found):
        raise Exit(1)


def _row(item: msgspec.Raw) -> list[str]:
    found = read(bytes(item), Imported)
    number = "" if found.number is None else str(found.number)
    return [number, found.name, found.pipeline_id, found.kind, found.schedule, found.token, "; ".join(found.notes)]


def _read(file: Path) -> list[dict[str, Any]]:
    """Read the triggers; what is wrong with a file is said without a line of it, where there may be a token."""
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        raise Invalid(f"{file} is not YAML{place}.") from None
    triggers = document.get("triggers") if isinstance(document, dict) else None
    if not isinstance(triggers, list) or not all(isinstance(each, dict) for each in triggers):
        raise Invalid(f"{file} has no list of `triggers`, as Mage's triggers.yaml has.")
    return triggers


def _read_dags(file: Path) -> list[dict[str, Any]]:
    try:
        dags = dags_of(msgspec.json.decode(file.read_bytes()))
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Invalid(f"{file} is not JSON.") from None
    if dags is None:
        raise Invalid(f"{file} is no list of DAGs: each has a dag_id, in a list of its own or under `dags`.")
    return dags


def _take_dag(client: Client, dag: Mapping[str, Any], *, dry_run: bool) -> Imported:
    pipeline_id = str(dag["dag_id"])
    imported = Imported(name=pipeline_id, pipeline_id=pipeline_id, kind=ScheduleKind.TIME)
    try:
        _make(client, map_dag(dag), imported, dry_run=dry_run)
    except (Conflict, Invalid, NotFound) as error:
        imported.notes.append(error.message)
    return imported


def _pipeline_of(trigger: Mapping[str, Any], given: str | None, file: Path) -> str:
    return str(given or trigger.get("pipeline_uuid") or file.resolve().parent.name)


def _take(client: Client, pipeline_id: str, trigger: Mapping[str, Any], *, dry_run: bool) -> Imported:
    kind = str(trigger.get("schedule_type") or ScheduleKind.TIME)
    imported = Imported(name=str(trigger.get("name") or ""), pipeline_id=pipeline_id, kind=kind)
    try:
        _import(client, trigger, imported, dry_run=dry_run)
    except (Conflict, Invalid, NotFound) as error:
        imported.notes.append(error.message)
    return imported


def _import(client: Client, trigger: Mapping[str, Any], imported: Imported, *, dry_run: bool) -> None:
    if imported.kind not in list(ScheduleKind):
        imported.notes.append("schedule_type: there are api and time; make one of api, with a filter, for events")
        return
    mapped = map_trigger(trigger, is_timed=imported.kind == ScheduleKind.TIME)
    unsaid = [f"{name} is not kept" for name in _UNSAID if trigger.get(name)]
    token = trigger.get("token") if imported.kind == ScheduleKind.API else None
    existing = _make(client, mapped, imported, dry_run=dry_run)
    imported.notes += unsaid
    if token is not None and (existing or not mapped.obstacles):
        _import_token(client, existing, token, imported, dry_run=dry_run)


def _make(client: Client, mapped: Mapped, imported: Imported, *, dry_run: bool) -> Schedule | None:
    """Make the schedule unless it is there or cannot be; raises NotFound when there is no such pipeline."""
    imported.notes = [*mapped.obstacles, *mapped.left_out]
    existing = _find(client, imported)
    if existing is not None:
        imported.schedule = "is there"
    elif mapped.obstacles:
        return None
    elif dry_run:
        imported.schedule = "would be made"
        return None
    else:
        existing = _create(client, imported, mapped.fields)
        imported.schedule = "made"
    imported.number = existing.number
    return existing


def _find(client: Client, imported: Imported) -> Schedule | None:
    """Find the schedule of this name; raises NotFound when there is no such pipeline."""
    client.request("GET", path("pipelines", imported.pipeline_id))
    return next(
        (
            schedule
            for schedule in _schedules_of(client, imported.pipeline_id)
            if (schedule.name, schedule.kind) == (imported.name, imported.kind)
        ),
        None,
    )


def _schedules_of(client: Client, pipeline_id: str) -> Iterator[Schedule]:
    for item in client.pages(path("schedules"), query={"pipeline_id": pipeline_id}, limit=None):
        yield read(bytes(item), Schedule)


def _create(client: Client, imported: Imported, fields: Mapping[str, Any]) -> Schedule:
    body = {"is_paused": True, "kind": imported.kind, "name": imported.name, "pipeline_id": imported.pipeline_id}
    return read(client.fetch("POST", path("schedules"), body={**body, **fields}), Schedule)


def _import_token(client: Client, schedule: Schedule | None, token: Any, imported: Imported, *, dry_run: bool) -> None:
    if not (isinstance(token, str) and is_foreign(token)):
        imported.token = "left out"  # noqa: S105
        imported.notes.append("token: it is not 32 hexadecimal digits as Mage makes them; take a new one")
        return
    if dry_run or schedule is None:
        imported.token = "would be imported"  # noqa: S105
        return
    body = {"sha256": hashlib.sha256(token.encode()).hexdigest(), "hint": hint(token), "label": "mage"}
    client.request("POST", path("schedules", str(schedule.id), "tokens", "imported"), body=body)
    imported.token = "imported"  # noqa: S105
