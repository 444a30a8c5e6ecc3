"""The database, forward only: numbered SQL files, each applied once in one transaction, in order.

A file that was applied must not change (its checksum is kept), and a database that knows more files than this code is
newer than the code: both stop the start.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources

import asyncpg
import msgspec

from schemas.errors import SettingsError, Unavailable
from schemas.store.db import AWAY, Db

LOCK = 7_365_117_804  # any number, the same in every version: one migrator at a time
CONNECT_TIMEOUT_S = 10.0

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""
_APPLIED = "SELECT version, checksum FROM schema_migrations ORDER BY version"
_KNOWN = "SELECT to_regclass('schema_migrations') IS NOT NULL"
_INSERT = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)"


class Migration(msgspec.Struct, frozen=True):
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available() -> list[Migration]:
    """List the files `NNNN_what.sql` that this code brings, in order."""
    files = sorted(
        (entry for entry in resources.files("migrations").iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return [Migration(int(file.name[:4]), file.name.removesuffix(".sql"), file.read_text("utf-8")) for file in files]


async def apply(database_url: str) -> list[str]:
    """Apply what is missing, under an advisory lock, and return the names of the files applied.

    Raises SettingsError when an applied file was edited or the database is newer than this code.
    """
    async with _connected(database_url) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await connection.execute(_CREATE_TABLE)
        missing = _missing(await _applied(connection))
        for migration in missing:
            async with connection.transaction():
                await connection.execute(_INSERT, migration.version, migration.name, migration.checksum)
                await connection.execute(migration.sql)
        return [migration.name for migration in missing]


async def check(database_url: str) -> None:
    """Make sure that the database is at head; raises SettingsError that says what to do when it is not."""
    async with _connected(database_url) as connection:
        missing = _missing(await _applied(connection))
    if missing:
        names = ", ".join(migration.name for migration in missing)
        raise SettingsError(f"The database lacks {names}: run `penstock migrate`.")


async def is_at_head(db: Db) -> bool:
    """Say whether the database is exactly what this code knows."""
    try:
        return not _missing(await _applied(db))
    except SettingsError:
        return False


@asynccontextmanager
async def _connected(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Connect; whatever Postgres has against it, then or later, is one Unavailable that says so."""
    try:
        connection = await asyncpg.connect(database_url, timeout=CONNECT_TIMEOUT_S)
        try:
            yield connection
        finally:
            await connection.close()
    except (*AWAY, asyncpg.PostgresError) as error:
        reason = str(error) or "no answer in time"
        raise Unavailable(f"The database of PENSTOCK_DATABASE_URL cannot be used: {reason}") from error


async def _applied(connection: Db) -> dict[int, str]:
    if not await connection.fetchval(_KNOWN):
        return {}
    return {row["version"]: row["checksum"] for row in await connection.fetch(_APPLIED)}


def _missing(applied: dict[int, str]) -> list[Migration]:
    known = {migration.version: migration for migration in available()}
    if newer := sorted(applied.keys() - known.keys()):
        raise SettingsError(f"The database is newer than this code: it has migration {newer[-1]:04}; upgrade Penstock.")
    for version, checksum in applied.items():
        if known[version].checksum != checksum:
            raise SettingsError(f"Migration {known[version].name} was edited after it was applied; restore the file.")
    return [migration for version, migration in sorted(known.items()) if version not in applied]
