"""How Postgres executes the store's own queries on a large database: a plan that scans a large table is an error."""

from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import msgspec

from schemas.errors import PenstockError
from schemas.store.db import SESSION, Record

LARGE = ("runs", "events", "changes", "logs", "block_runs", "block_outputs", "event_keys")
MODES = ("force_generic_plan", "force_custom_plan")


class Plan(msgspec.Struct, frozen=True):
    """One execution: its nodes from the top, the blocks of 8 KiB that it touched, and how long it took."""

    nodes: tuple[str, ...]
    scans: tuple[str, ...]
    blocks: int
    ms: float


class Eavesdropper:
    """A Db that passes everything on to a connection, and remembers the queries that the store sent."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self.heard: list[tuple[str, tuple[Any, ...]]] = []

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        self.heard.append((sql, args))
        return await self._connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: Any) -> Record | None:
        self.heard.append((sql, args))
        return await self._connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        self.heard.append((sql, args))
        return await self._connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any) -> str:
        self.heard.append((sql, args))
        return await self._connection.execute(sql, *args)


async def executed(
    connection: "asyncpg.Connection[asyncpg.Record]", sql: str, arguments: Sequence[Any], *, mode: str
) -> Plan:
    """Execute a query under the session settings of the roles and return its plan, which is one of the MODES."""
    for name, value in (SESSION | {"plan_cache_mode": mode}).items():
        await connection.execute("SELECT set_config($1, $2, false)", name, value)
    await connection.execute(f"PREPARE explained AS {sql}")
    try:
        given = f"({', '.join(map(_literal, arguments))})" if arguments else ""
        text = await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE explained{given}"
        )
    finally:
        await connection.execute("DEALLOCATE explained")
    (explained,) = msgspec.json.decode(text)
    top = explained["Plan"]
    nodes = list(_walk(top))
    return Plan(
        nodes=tuple(_name(node) for node in nodes if _ran(node)),
        scans=tuple(_name(node) for node in nodes if _ran(node) and _scans_a_large_table(node)),
        blocks=top["Shared Hit Blocks"] + top["Shared Read Blocks"],
        ms=explained["Execution Time"],
    )


def check(name: str, plan: Plan, *, most_blocks: int) -> None:
    """Raise PenstockError when a plan scans a large table or touches too much."""
    if plan.scans:
        raise PenstockError(f"{name} scans a large table: {', '.join(plan.scans)}")
    if plan.blocks > most_blocks:
        raise PenstockError(f"{name} touches {plan.blocks} blocks, more than {most_blocks}: {' < '.join(plan.nodes)}")


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _ran(node: dict[str, Any]) -> bool:
    return bool(node["Actual Loops"])


def _scans_a_large_table(node: dict[str, Any]) -> bool:
    table = str(node.get("Relation Name", ""))
    is_large = table.startswith(LARGE) and not table.endswith("_default")  # which is empty, or was not asked for
    return is_large and node["Node Type"] == "Seq Scan"


def _name(node: dict[str, Any]) -> str:
    where = node.get("Index Name") or node.get("Relation Name")
    return f"{node['Node Type']} {where}" if where else str(node["Node Type"])


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list | tuple):
        value = "{" + ",".join(f'"{item}"' for item in value) + "}"
    return "'" + str(value).replace("'", "''") + "'"
