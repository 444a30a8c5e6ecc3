"""One embedded Postgres and one embedded Redis for the whole session, a database per test that asks for one."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

import migrations
from gateway import embedded
from gateway.embedded import EmbeddedServers
from schemas.store.db import Database, prepare
from tests.system import Penstock

FLOWS = Path(__file__).parent / "flows"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Postgres and Redis; tests that harm them start their own."""
    with embedded.running(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture(scope="session")
async def template(servers: EmbeddedServers) -> str:
    """The name of a migrated database that others are copied from."""
    await _create(servers, "template_of_tests")
    await migrations.apply(_url(servers, "template_of_tests"))
    return "template_of_tests"


@pytest.fixture
async def database_url(servers: EmbeddedServers, template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    name = f"test_{next(_numbers)}"
    await _create(servers, name, template)
    yield _url(servers, name)
    await _admin(servers, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """The store's own way into the test's database."""
    database = Database(database_url, size=4, name="tests")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A plain connection, to look at tables."""
    opened = await asyncpg.connect(database_url)
    await prepare(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def penstock(servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    """A Penstock of the test's own, nothing started yet."""
    async with Penstock(
        database_url=database_url, redis_url=servers.redis_url, directory=tmp_path, pipelines=FLOWS
    ) as system:
        yield system


@pytest.fixture(scope="session")
async def shared(
    servers: EmbeddedServers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Penstock]:
    """One gateway and one runner for all tests that only use them, each with schedules of its own."""
    async with Penstock(
        database_url=await new_database(servers, "shared", template),
        redis_url=servers.redis_url,
        directory=tmp_path_factory.mktemp("shared"),
        pipelines=FLOWS,
    ) as system:
        await system.start_runner()
        await system.start_gateway()
        yield system


@pytest.fixture(scope="session")
async def outgoing(
    servers: EmbeddedServers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Penstock]:
    """One gateway and one runner, with one block host, whose requests may go to servers of the tests."""
    async with Penstock(
        database_url=await new_database(servers, "outgoing", template),
        redis_url=servers.redis_url,
        directory=tmp_path_factory.mktemp("outgoing"),
        pipelines=FLOWS,
        outgoing_allow="127.0.0.0/8",
        hosts=1,
        max_hosts=1,
    ) as system:
        await system.start()
        yield system


@pytest.fixture
async def outgoing_connection(outgoing: Penstock) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A plain connection to the database of `outgoing`."""
    opened = await asyncpg.connect(outgoing.environ["PENSTOCK_DATABASE_URL"])
    await prepare(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def shared_connection(shared: Penstock) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A plain connection to the database of `shared`."""
    opened = await asyncpg.connect(shared.environ["PENSTOCK_DATABASE_URL"])
    await prepare(opened)
    yield opened
    await opened.close()


async def new_database(servers: EmbeddedServers, name: str, template: str) -> str:
    """Copy the template for as long as the session lasts, and return the URL of the copy."""
    await _create(servers, name, template)
    return _url(servers, name)


async def _create(servers: EmbeddedServers, name: str, template: str = "template1") -> None:
    await _admin(servers, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


async def _admin(servers: EmbeddedServers, statement: str) -> None:
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _url(servers: EmbeddedServers, database: str) -> str:
    return servers.database_url.replace("/penstock?", f"/{database}?", 1)
