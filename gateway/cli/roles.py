"""The single roles for many machines: `penstock gateway`, `penstock runner`, `penstock migrate`."""

import asyncio
import os
import sys

import rich_click as click
from click.exceptions import Exit

from gateway.cli.environment import environment
from schemas.errors import SettingsError
from schemas.settings import Settings, load


@click.command()
@click.option("--host", help="Address to listen on.  [PENSTOCK_HOST, 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [PENSTOCK_PORT, 8787]")
def gateway(host: str | None, port: int | None) -> None:
    """Run the gateway alone: it takes deliveries and answers the API.

    PENSTOCK_DATABASE_URL and PENSTOCK_REDIS_URL name the servers it shares with the runners. SIGTERM drains it.
    """
    settings = _with_database(load(environment(host=host, port=port)))
    from gateway.app import create_app  # litestar with it: no other command may pay for that
    from gateway.server import serve

    serve(settings, create_app)


@click.command()
def runner() -> None:
    """Run a runner alone: it executes runs, and listens on no socket.

    Start as many as you like, on as many machines. SIGTERM drains it.
    """
    _with_database(load())
    # The gateway never imports the runner; becoming it keeps the process id that signals are sent to.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "runner"])  # noqa: S606


@click.command()
@click.option("--status", is_flag=True, help="Only check; exit code 1 when something is missing.")
def migrate(*, status: bool) -> None:
    """Bring the database up to date; safe to run at any time, from several places at once."""
    import migrations

    settings = _with_database(load())
    if status:
        _show_status(settings.database_url)
        return
    applied = asyncio.run(migrations.apply(settings.database_url))
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("the database is up to date")


def _show_status(database_url: str) -> None:
    import migrations

    try:
        asyncio.run(migrations.check(database_url))
    except SettingsError as error:
        click.echo(error.message)
        raise Exit(1) from None
    click.echo("the database is up to date")


def _with_database(settings: Settings) -> Settings:
    if not settings.database_url:
        raise SettingsError("set PENSTOCK_DATABASE_URL, or run `penstock up`, which brings its own Postgres and Redis")
    return settings
