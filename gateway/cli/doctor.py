"""`penstock doctor`: is everything here as it has to be, and if not, what to do."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from pathlib import Path

import msgspec
import rich_click as click
from click.exceptions import Exit

from gateway.cli.client import Client, path
from gateway.cli.environment import answers
from gateway.cli.options import find_connection
from gateway.cli.output import Column, Format, Listing, Output
from gateway.data_directory import addresses
from gateway.embedded import find_postgres, find_redis
from schemas.errors import PenstockError, SettingsError, Unavailable, UnsafeDatabase
from schemas.settings import Settings, load, local_url

OLDEST_PYTHON = (3, 11)
PATIENCE_S = 5.0
NOT_RUNNING = "nothing runs here: `penstock up`, or set {}"
_COLUMNS = (Column("check"), Column("verdict", "state"), Column("found"), Column("what to do"))


class Verdict(StrEnum):
    """How a check came out; only `fail` makes the exit code 1."""

    OK = "ok"
    WARN = "warning"
    FAIL = "failed"


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at; `advice` is empty when all is well."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


class Report(msgspec.Struct, frozen=True):
    """The answer of `penstock doctor --json`."""

    healthy: bool
    checks: list[Check]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of a table.")
@click.option(
    "--gateway-only", is_flag=True, help="Only ask the gateway of this machine or container whether it lives, quietly."
)
def doctor(*, as_json: bool, gateway_only: bool) -> None:
    """Check this installation and say what to do; exit code 1 when something has failed.

    --gateway-only is for a container's health check: in one whose main process is no gateway it finds nothing wrong.
    """
    if gateway_only:
        raise Exit(0 if _gateway_lives(load()) else 1)
    checks = asyncio.run(_examine())
    report = Report(all(check.verdict is not Verdict.FAIL for check in checks), checks)
    rows = [(check.name, check.verdict.value, check.found, check.advice) for check in checks]
    printer = Output(Format.JSON if as_json else None)
    printer.record(msgspec.json.encode(report), lambda: [Listing(_COLUMNS, rows)])
    raise Exit(0 if report.healthy else 1)


def _gateway_lives(settings: Settings) -> bool:
    """Ask `/health/live`, unless the main process of this container has another role."""
    main_process = Path("/proc/1/cmdline").read_bytes().split(b"\0") if Path("/proc/1/cmdline").exists() else []
    if b"runner" in main_process or b"migrate" in main_process:
        return True
    return answers(local_url(settings.host, settings.port), "/health/live")


async def _examine() -> list[Check]:
    checks = [_python(), _binary("Postgres program", find_postgres), _binary("Valkey program", find_redis)]
    try:
        settings = load()
    except SettingsError as error:
        return [Check("settings", Verdict.FAIL, error.message, "correct or unset that variable"), *checks]
    running = addresses(settings.data)
    checks.insert(0, Check("settings", Verdict.OK, "all PENSTOCK_ variables are known and valid"))
    database_url = settings.database_url or (running.database_url if running else "")
    checks += [check async for check in _database(database_url)]
    checks.append(await _redis(settings.redis_url or (running.redis_url if running else "")))
    return [*checks, _pipelines(Path(settings.pipelines)), _data(Path(settings.data)), *_gateway()]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Check("Python", Verdict.FAIL, version, "use Python 3.11 or newer")
    return Check("Python", Verdict.OK, f"{version} in {sys.prefix}")


def _binary(name: str, find: Callable[[], Path]) -> Check:
    try:
        return Check(name, Verdict.OK, str(find()))
    except SettingsError as error:
        return Check(name, Verdict.WARN, "not here", error.message)


async def _database(url: str) -> AsyncIterator[Check]:
    """Yield up to five checks: each makes sense only when the one before it came out well."""
    if not url:
        yield Check("Postgres", Verdict.WARN, "not known", NOT_RUNNING.format("PENSTOCK_DATABASE_URL"))
        return
    import asyncpg  # here, because `--gateway-only` has to be quick

    import migrations
    from schemas.store import leases
    from schemas.store.db import Database

    try:
        connection = await asyncpg.connect(url, timeout=PATIENCE_S)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        yield Check("Postgres", Verdict.FAIL, str(error) or "no answer in time", "is it running, is the URL right?")
        return
    version = connection.get_server_version()
    await connection.close()
    yield Check("Postgres", Verdict.OK, f"answers, version {version.major}.{version.minor}")
    database = Database(url, size=1, name="penstock doctor")
    try:
        await database.open()
        yield Check("durability", Verdict.OK, "a commit is on disk when it is acknowledged")
        await migrations.check(url)
        yield Check("migrations", Verdict.OK, "the database is up to date")
        yield _queues(await leases.find_unserved_queues(database))
    except Unavailable as error:
        yield Check("durability", Verdict.FAIL, error.message, "try again")
    except UnsafeDatabase as error:
        yield Check("durability", Verdict.FAIL, error.message, "change postgresql.conf and restart Postgres")
    except SettingsError as error:
        yield Check("migrations", Verdict.FAIL, error.message, "penstock migrate, with the newest version")
    finally:
        await database.close()


def _queues(unserved: list[str]) -> Check:
    if unserved:
        names = ", ".join(unserved)
        return Check(
            "queues", Verdict.WARN, f"no runner serves {names}", f"start one with PENSTOCK_QUEUES={unserved[0]}"
        )
    return Check("queues", Verdict.OK, "every queue in use is served by a runner")


async def _redis(url: str) -> Check:
    if not url:
        return Check("Redis", Verdict.WARN, "not known", NOT_RUNNING.format("PENSTOCK_REDIS_URL"))
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    try:
        async with Redis.from_url(url, socket_connect_timeout=PATIENCE_S, socket_timeout=PATIENCE_S) as client:
            version = (await client.info("server")).get("redis_version", "?")
    except (OSError, ValueError, RedisError) as error:
        return Check("Redis", Verdict.FAIL, str(error), "is it running, is the URL right?")
    return Check("Redis", Verdict.OK, f"answers, protocol of version {version}")


def _pipelines(directory: Path) -> Check:
    if not directory.exists():
        return Check("pipelines", Verdict.WARN, f"no {directory}", "`penstock up` makes it, or set PENSTOCK_PIPELINES")
    if not (directory.is_dir() and os.access(directory, os.R_OK | os.X_OK)):
        return Check("pipelines", Verdict.FAIL, f"{directory} cannot be read", "make it a readable directory")
    count = sum(1 for _ in directory.glob("*.py"))
    return Check("pipelines", Verdict.OK, f"{count} Python files in {directory.resolve()}")


def _data(directory: Path) -> Check:
    if not directory.exists():
        return Check("data", Verdict.OK, f"no {directory} yet")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return Check("data", Verdict.FAIL, f"{directory} is not writable", "run as its owner, or choose another --data")
    if directory.stat().st_mode & 0o022:
        return Check("data", Verdict.FAIL, f"others may write to {directory}", f"chmod 700 {directory}")
    return Check("data", Verdict.OK, str(directory.resolve()))


def _gateway() -> list[Check]:
    try:
        connection = find_connection(None, None, environ=os.environ, folder=Path.cwd())
    except SettingsError as error:
        return [Check("API key", Verdict.FAIL, error.message, "correct that file or variable")]
    if not answers(connection.url, "/health/ready"):
        return [
            Check("gateway", Verdict.WARN, f"none is ready at {connection.url}", "`penstock up`, or set PENSTOCK_URL")
        ]
    gateway = Check("gateway", Verdict.OK, f"ready at {connection.url}")
    if not connection.key:
        return [gateway, Check("API key", Verdict.WARN, "none is set", "set PENSTOCK_API_KEY")]
    try:
        Client(connection.url, connection.key).request("GET", path("pipelines"), query={"limit": 1})
    except PenstockError as error:
        return [gateway, Check("API key", Verdict.FAIL, error.message, "set PENSTOCK_API_KEY to a key of this gateway")]
    return [gateway, Check("API key", Verdict.OK, "accepted")]
