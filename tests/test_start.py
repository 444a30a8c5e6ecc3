"""What a role refuses to start with, each in one clear line and with exit code 1."""

import asyncio

import asyncpg
import pytest

from tests.system import Penstock

Connection = asyncpg.Connection
ROLES = ["gateway", "runner"]


async def refusal(penstock: Penstock, role: str, **settings: object) -> str:
    """Start a role that cannot start, and return what it says."""
    process = penstock.begin(role, **settings)
    assert await asyncio.to_thread(process.popen.wait, 20) == 1
    assert "Traceback" not in process.log
    return process.log


@pytest.mark.parametrize("role", ROLES)
async def test_a_database_that_may_lose_a_commit_is_refused(
    penstock: Penstock, connection: Connection, role: str
) -> None:
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute(f'ALTER DATABASE "{database}" SET synchronous_commit = off')

    assert "Postgres has synchronous_commit = off, so an accepted event could be lost" in await refusal(penstock, role)


@pytest.mark.parametrize("role", ROLES)
async def test_a_database_newer_than_the_code_is_refused(penstock: Penstock, connection: Connection, role: str) -> None:
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_from_the_future', '')")

    assert "The database is newer than this code: it has migration 9999" in await refusal(penstock, role)


@pytest.mark.parametrize("role", ROLES)
async def test_a_database_that_lacks_a_migration_is_refused(
    penstock: Penstock, connection: Connection, role: str
) -> None:
    await connection.execute("DELETE FROM schema_migrations")

    missing = "0001_initial, 0002_runs, 0003_senders, 0004_dialects"
    assert f"The database lacks {missing}: run `penstock migrate`." in await refusal(penstock, role)


@pytest.mark.parametrize("role", ROLES)
async def test_a_database_that_does_not_answer_is_named_without_its_password(penstock: Penstock, role: str) -> None:
    said = await refusal(penstock, role, database_url="postgresql://penstock:canary@127.0.0.1:1/penstock")

    assert "The database of PENSTOCK_DATABASE_URL cannot be used" in said
    assert "canary" not in said


@pytest.mark.parametrize("role", ROLES)
async def test_a_misspelt_setting_is_refused_with_the_name_that_was_meant(penstock: Penstock, role: str) -> None:
    process = penstock.begin(role, lease_seconds=3)
    assert await asyncio.to_thread(process.popen.wait, 20) in (1, 2)
    assert "PENSTOCK_LEASE_SECONDS is not a setting; did you mean PENSTOCK_LEASE_S?" in process.log
