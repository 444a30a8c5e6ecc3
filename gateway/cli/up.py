"""`penstock up`: everything on one machine, until Ctrl-C."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click

import gateway
from gateway.cli.environment import answers, environment
from gateway.data_directory import Addresses, DataDirectory
from gateway.embedded import EmbeddedPostgres, EmbeddedRedis
from gateway.server_process import Report, ServerProcess
from gateway.supervisor import Supervisor
from schemas.errors import Conflict, PenstockError
from schemas.settings import Settings, load, local_url

READY_WITHIN_S = 30.0
GIVE_UP_AFTER_EXITS = 3


class Backing(msgspec.Struct, frozen=True, kw_only=True):
    """Where Postgres and Redis are, which of them are ours to keep alive, and what signs links."""

    database_url: str
    redis_url: str
    secret_keys: str
    servers: Sequence[ServerProcess]


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that is ready; `admin_key` is there only when this start made the first one."""

    url: str
    admin_key: str | None


@click.command()
@click.option("--host", help="Address to listen on.  [PENSTOCK_HOST, 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.  [PENSTOCK_PORT, 8787]"
)
@click.option("--data", help="Directory of the embedded servers.  [PENSTOCK_DATA, ./.penstock]")
@click.option("--pipelines", help="Directory of your pipelines.  [PENSTOCK_PIPELINES, ./pipelines]")
def up(host: str | None, port: int | None, data: str | None, pipelines: str | None) -> None:
    """Run everything on this machine: Postgres, Redis, gateway and runner.

    Postgres and Redis are embedded unless PENSTOCK_DATABASE_URL and PENSTOCK_REDIS_URL name others.
    Ctrl-C stops all of it; what was accepted is still there at the next start.
    """
    environ = environment(host=host, port=port, data=data, pipelines=pipelines)
    settings = load(environ)
    environ |= {"PENSTOCK_PORT": str(claim_port(settings.host, settings.port))}
    prepare_pipelines(Path(settings.pipelines))
    with backing(settings, report=say) as behind:
        environ |= {
            "PENSTOCK_DATABASE_URL": behind.database_url,
            "PENSTOCK_REDIS_URL": behind.redis_url,
            "PENSTOCK_SECRET_KEYS": behind.secret_keys,
        }
        asyncio.run(until_stopped(_serve(environ, behind.servers)))
        say("stopping the servers")


def say(text: str) -> None:
    """Tell the person at the terminal something, on stderr."""
    click.echo(f"penstock: {text}", err=True)


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends or SIGINT or SIGTERM cancels it; a second signal cancels its clean-up as well."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


@contextlib.contextmanager
def backing(settings: Settings, *, report: Report) -> Iterator[Backing]:
    """Start the servers that the settings do not name, in the data directory; stop them at the end."""
    with contextlib.ExitStack() as stack:
        redis_url, database_url, secret_keys = settings.redis_url, settings.database_url, settings.secret_keys
        servers: list[ServerProcess] = []
        if not (redis_url and database_url):
            data = stack.enter_context(DataDirectory(settings.data))
            secret_keys = secret_keys or data.secret_key()
            if not redis_url:
                redis = stack.enter_context(EmbeddedRedis(data, report=report))
                servers, redis_url = [redis], redis.url
            if not database_url:
                postgres = stack.enter_context(EmbeddedPostgres(data, report=report))
                servers, database_url = [*servers, postgres], postgres.url
            data.publish(Addresses(pid=os.getpid(), database_url=database_url, redis_url=redis_url))
        yield Backing(database_url=database_url, redis_url=redis_url, secret_keys=secret_keys, servers=servers)


@contextlib.asynccontextmanager
async def everything(
    environ: dict[str, str], servers: Sequence[ServerProcess], *, output: int, report: Report
) -> AsyncIterator[Running]:
    """Migrate, make the first admin key, start gateway and runner, and wait until the gateway is ready.

    `environ` holds complete settings: a port other than 0 and both URLs. Raises PenstockError when it comes to nothing.
    """
    import migrations  # asyncpg with it: 60 ms that `penstock up --help` does not pay

    settings = load(environ)
    await migrations.apply(settings.database_url)
    admin_key = None if settings.admin_key else await first_admin_key(settings.database_url)
    supervisor = Supervisor(environ, servers=servers, output=output, drain_s=settings.drain_s, report=report)
    url = local_url(settings.host, settings.port)
    try:
        await supervisor.start()
        await _wait_until_ready(url, supervisor)
        yield Running(url=url, admin_key=admin_key)
    finally:
        await supervisor.stop()


async def first_admin_key(database_url: str) -> str | None:
    """Make the first admin key and return it; None when there is a key already."""
    from gateway import bootstrap  # the store with it

    return await bootstrap.first_admin_key(database_url)


def claim_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0; Conflict when somebody listens there already."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise Conflict(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port") from None
        return int(probe.getsockname()[1])


def example(name: str) -> Path:
    """Return the file of an example: beside the package in a checkout, inside it when installed."""
    package = Path(gateway.__file__).parent
    places = (package / "examples" / name, package.parent / "examples" / name)
    return next((place for place in places if place.exists()), places[0])


def prepare_pipelines(directory: Path) -> None:
    """Make the pipelines directory with the `hello` example in it, unless it is there."""
    if directory.exists():
        return
    directory.mkdir(parents=True)
    shutil.copy(example("hello.py"), directory)
    say(f"made {directory} with an example in it, hello.py; put your pipelines there")


async def _serve(environ: dict[str, str], servers: Sequence[ServerProcess]) -> None:
    async with everything(environ, servers, output=sys.stderr.fileno(), report=say) as running:
        _introduce(running, load(environ), is_embedded=bool(servers))
        await asyncio.Event().wait()


def _introduce(running: Running, settings: Settings, *, is_embedded: bool) -> None:
    click.echo(f"\nPenstock is up at {running.url}")
    click.echo(
        f"  pipelines  {Path(settings.pipelines).resolve()}" + (" (edits count at once)" if settings.reload else "")
    )
    if is_embedded:
        click.echo(f"  data       {Path(settings.data).resolve()}")
    if running.admin_key:
        click.echo("\nThe first admin key, shown only this once. For the other commands:\n")
        click.echo(f"  export PENSTOCK_API_KEY={running.admin_key}")
        if running.url != settings.url:
            click.echo(f"  export PENSTOCK_URL={running.url}")
    click.echo("\nCtrl-C stops everything.\n")


async def _wait_until_ready(url: str, supervisor: Supervisor) -> None:
    deadline = asyncio.get_running_loop().time() + READY_WITHIN_S
    while not await asyncio.to_thread(answers, url, "/health/ready"):
        for child in supervisor.children:
            if child.exits >= GIVE_UP_AFTER_EXITS:
                raise PenstockError(f"the {child.name} does not stay up; what it said is above")
        if asyncio.get_running_loop().time() > deadline:
            raise PenstockError(f"the gateway was not ready within {READY_WITHIN_S:.0f} s")
        await asyncio.sleep(0.03)
