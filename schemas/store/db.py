"""Connections to Postgres: a bound on every wait, and asyncpg's faults turned into our own errors in one place."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, Protocol, TypeVar

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from schemas.errors import Conflict, Invalid, Unavailable, UnsafeDatabase

T = TypeVar("T")
Record = asyncpg.Record

# What happens when Postgres restarts, fails over, is full or is read-only; each was seen (asyncpg 0.32).
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.InsufficientResourcesError,
)
QUERY_TIMEOUT_S = 5.0
SESSION = {
    "lock_timeout": "4s",
    "statement_timeout": "30s",
    "enable_seqscan": "off",  # a plan that is made while a table is small is kept when it is large
    "jit": "off",
}
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
_HEADING = re.compile(r"^-- name: (\w+)(?: -> (\w+))?$", re.MULTILINE)


class Db(Protocol):
    """What the store's functions need: a pool, or the connection of a transaction."""

    async def fetch(self, sql: str, *args: Any) -> list[Record]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Record | None: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> str: ...


def queries(table: str) -> dict[str, str]:
    """Read the named queries of `<table>.sql`."""
    parts = _HEADING.split(resources.files("schemas.store").joinpath(f"{table}.sql").read_text("utf-8"))
    return {name: sql.strip() for name, sql in zip(parts[1::3], parts[3::3], strict=True)}


def shapes(table: str) -> dict[str, str]:
    """Read which Struct each named query of `<table>.sql` says to return."""
    parts = _HEADING.split(resources.files("schemas.store").joinpath(f"{table}.sql").read_text("utf-8"))
    return {name: struct for name, struct in zip(parts[1::3], parts[2::3], strict=True) if struct}


class Database:
    """A pool of connections; every call ends within `QUERY_TIMEOUT_S` or raises Unavailable."""

    def __init__(self, url: str, *, size: int, name: str) -> None:
        self._url = url
        self._size = size
        self._name = name
        self._opened: asyncpg.Pool | None = None

    @property
    def _pool(self) -> asyncpg.Pool:
        if self._opened is None:
            raise Unavailable("The database is not open.")
        return self._opened

    async def open(self) -> None:
        """Connect; raises Unavailable, or UnsafeDatabase when a commit there would not be durable."""
        async with _faults():
            self._opened = await asyncpg.create_pool(
                self._url,
                min_size=1,
                max_size=self._size,
                init=prepare,
                reset=_keep_as_is,
                timeout=QUERY_TIMEOUT_S,
                server_settings=SESSION | {"application_name": self._name},
            )
        await self._refuse_unsafe()

    async def close(self) -> None:
        """Close every connection, by force after a few seconds."""
        pool, self._opened = self._opened, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                await pool.close()
        except (TimeoutError, *AWAY):
            pool.terminate()

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        return await self._call(lambda connection: connection.fetch(sql, *args))

    async def fetchrow(self, sql: str, *args: Any) -> Record | None:
        return await self._call(lambda connection: connection.fetchrow(sql, *args))

    async def fetchval(self, sql: str, *args: Any) -> Any:
        return await self._call(lambda connection: connection.fetchval(sql, *args))

    async def execute(self, sql: str, *args: Any) -> str:
        return await self._call(lambda connection: connection.execute(sql, *args))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Db]:
        """Give the connection of one transaction."""
        async with _faults(), self._pool.acquire(timeout=QUERY_TIMEOUT_S) as connection, connection.transaction():
            yield connection

    async def _call(self, send: Callable[[PoolConnectionProxy], Awaitable[T]]) -> T:
        async with _faults(), self._pool.acquire(timeout=QUERY_TIMEOUT_S) as connection:
            # Not `timeout=`: asyncpg waits for the server's answer to the cancellation, so a hung server hangs us too.
            # A terminated connection fails its query at once.
            timer = asyncio.get_running_loop().call_later(QUERY_TIMEOUT_S, connection.terminate)
            try:
                return await send(connection)
            except asyncio.CancelledError:
                connection.terminate()
                raise
            finally:
                timer.cancel()

    async def _refuse_unsafe(self) -> None:
        for name in _DURABLE:
            value = await self.fetchval("SELECT current_setting($1)", name)
            if value == "off":
                raise UnsafeDatabase(
                    f"Postgres has {name} = off, so an accepted event could be lost: turn it on and start again."
                )


@asynccontextmanager
async def _faults() -> AsyncIterator[None]:
    """Turn asyncpg's errors into ours: Unavailable when it is away, Conflict or Invalid when it refuses a value."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise Conflict(f"{(error.constraint_name or 'This').replace('_', ' ')}: it exists already.") from error
    except asyncpg.DataError as error:
        raise Invalid("A value cannot be stored: a text with a NUL, or a time or number out of range.") from error
    except AWAY as error:
        raise Unavailable("The database is away.") from error


async def prepare(connection: "asyncpg.Connection[Record]") -> None:
    """Teach a new connection our JSON: `json` passes through as msgspec.Raw, `jsonb` is decoded and encoded."""
    await connection.set_type_codec("json", schema="pg_catalog", encoder=_as_text, decoder=_as_raw)
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_encode, decoder=msgspec.json.decode)


async def _keep_as_is(_connection: Any) -> None:
    """Skip asyncpg's reset query on release: a round trip that undoes what we never do."""


def _as_text(value: bytes | msgspec.Raw) -> str:
    return bytes(value).decode()


def _as_raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()
