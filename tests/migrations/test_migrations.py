"""The database goes forward only, once, whoever asks; and rows of any day have a place."""

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

import migrations
from schemas.errors import SettingsError, Unavailable
from schemas.store.db import Database

HEAD = [migration.name for migration in migrations.available()]


@pytest.fixture
async def empty_url(database_url: str) -> str:
    """A database in which nothing was migrated."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return database_url


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await asyncpg.connect(empty_url)
    yield opened
    await opened.close()


def uuid_of(moment: dt.datetime) -> uuid.UUID:
    """Make an id as it would have been made at a moment."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & 0xFFFF)


async def insert_event(connection: "asyncpg.Connection[asyncpg.Record]", event_id: uuid.UUID) -> str:
    """Write an event and say in which partition it lies."""
    return str(
        await connection.fetchval(
            """INSERT INTO events (id, schedule_id, source, verdict, content_type, kind, headers, body, size)
               VALUES ($1, $1, 'generic', 'accepted', '', 'empty', '{}', '', 0) RETURNING tableoid::regclass::text""",
            event_id,
        )
    )


async def test_an_empty_database_gets_everything_once(empty_url: str) -> None:
    assert await migrations.apply(empty_url) == HEAD
    assert await migrations.apply(empty_url) == []
    await migrations.check(empty_url)


async def test_an_empty_database_is_not_at_head_and_says_what_to_do(empty_url: str) -> None:
    with pytest.raises(SettingsError, match=r"lacks 0001_initial.*run `penstock migrate`"):
        await migrations.check(empty_url)


async def test_migrators_at_the_same_time_apply_each_file_once(empty_url: str) -> None:
    applied = await asyncio.gather(*(migrations.apply(empty_url) for _ in range(4)))

    assert sorted(applied, key=len) == [[], [], [], HEAD]


async def test_a_file_that_was_edited_after_it_was_applied_is_refused(database_url: str, db: Database) -> None:
    await db.execute("UPDATE schema_migrations SET checksum = 'another' WHERE version = 1")

    with pytest.raises(SettingsError, match="0001_initial was edited after it was applied"):
        await migrations.apply(database_url)
    with pytest.raises(SettingsError, match="0001_initial was edited after it was applied"):
        await migrations.check(database_url)
    assert not await migrations.is_at_head(db)


async def test_a_database_that_is_newer_than_the_code_is_refused(database_url: str, db: Database) -> None:
    await db.execute("INSERT INTO schema_migrations (version, name, checksum) VALUES (9000, '9000_future', 'x')")

    with pytest.raises(SettingsError, match="newer than this code: it has migration 9000; upgrade Penstock"):
        await migrations.apply(database_url)
    with pytest.raises(SettingsError, match="newer than this code"):
        await migrations.check(database_url)
    assert not await migrations.is_at_head(db)


async def test_a_migrated_database_is_at_head(db: Database) -> None:
    assert await migrations.is_at_head(db)


async def test_a_migration_that_fails_leaves_nothing_behind(
    empty_url: str, empty: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await empty.execute("CREATE TABLE runs (already_here boolean)")

    with pytest.raises(Unavailable, match='relation "runs" already exists'):
        await migrations.apply(empty_url)

    assert await empty.fetchval("SELECT to_regclass('pipelines')") is None
    assert await empty.fetchval("SELECT count(*) FROM schema_migrations") == 0
    await empty.execute("DROP TABLE runs")
    assert await migrations.apply(empty_url) == HEAD


async def test_every_day_from_yesterday_to_next_week_has_its_partitions(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    assert await connection.fetchval("SELECT ensure_partitions(7)") == 0  # the migration made them
    today = dt.datetime.now(dt.UTC)

    for days in range(-1, 8):
        day = today + dt.timedelta(days=days)
        assert await insert_event(connection, uuid_of(day)) == f"events_{day:%Y%m%d}"


async def test_partitions_begin_and_end_with_the_day(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    midnight = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=1)
    before = midnight - dt.timedelta(milliseconds=1)

    assert await insert_event(connection, uuid_of(before)) == f"events_{before:%Y%m%d}"
    assert await insert_event(connection, uuid_of(midnight)) == f"events_{midnight:%Y%m%d}"


async def test_rows_of_a_day_without_a_partition_lie_in_the_default_one_and_are_left_there(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    in_nine_days = dt.datetime.now(dt.UTC) + dt.timedelta(days=9)
    assert await insert_event(connection, uuid_of(in_nine_days)) == "events_default"

    made = await connection.fetchval("SELECT ensure_partitions(10)")

    assert made == 3 * 3 - 1  # three days of three tables, but for the one whose row was there first
    assert await insert_event(connection, uuid_of(in_nine_days)) == "events_default"
    assert await connection.fetchval("SELECT count(*) FROM events") == 2


async def test_partitions_may_be_made_by_many_at_once(database_url: str) -> None:
    connections = [await asyncpg.connect(database_url) for _ in range(4)]
    try:
        made = await asyncio.gather(*(each.fetchval("SELECT ensure_partitions(12)") for each in connections))
    finally:
        for each in connections:
            await each.close()

    assert sorted(made) == [0, 0, 0, 15]


@pytest.mark.parametrize(
    ("moment", "floor"),
    [
        ("1970-01-01T00:00:00Z", "00000000-0000-0000-0000-000000000000"),
        ("2024-02-29T12:34:56.789Z", "018df4dc-5495-0000-0000-000000000000"),
        ("9999-12-31T23:59:59.999Z", "e677d21f-dbff-0000-0000-000000000000"),
    ],
)
async def test_the_smallest_id_of_a_moment(
    moment: str, floor: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    found = await connection.fetchval("SELECT uuid_floor($1::text::timestamptz)", moment)

    assert found == uuid.UUID(floor)
