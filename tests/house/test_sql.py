"""All SQL is in two places, and every query there is known to the database, used, and as wide as its Struct."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import asyncpg
import msgspec
import pytest

import migrations
import schemas
from schemas.store.db import queries, shapes
from tests.house.code import ROOT, docstrings, modules

STORE = ROOT / "schemas" / "store"
TABLES = sorted(path.stem for path in STORE.glob("*.sql"))
LOOKS_LIKE_SQL = re.compile(
    r"\b(SELECT\s+\S+\s+(FROM|AS)|SELECT\s+\w+\(|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM"
    r"|(CREATE|ALTER|DROP|TRUNCATE)\s+(TABLE|INDEX|DATABASE|ROLE|FUNCTION))"
)


def structs() -> dict[str, type[msgspec.Struct]]:
    named = [importlib.import_module(info.name) for info in pkgutil.walk_packages(schemas.__path__, "schemas.")]
    return {
        name: value
        for module in named
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, msgspec.Struct)
    }


def named_in(path: Path) -> list[str]:
    """Find the queries that a store module sends: `SQL["name"]`."""
    return [
        node.slice.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "SQL"
        and isinstance(node.slice, ast.Constant)
    ]


async def test_every_query_prepares_and_gives_what_its_struct_holds(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    known = structs()
    wrong = {}
    for table in TABLES:
        shape_of = shapes(table)
        for name, sql in queries(table).items():
            columns = [attribute.name for attribute in (await connection.prepare(sql)).get_attributes()]
            if name in shape_of and sorted(columns) != sorted(known[shape_of[name]].__struct_fields__):
                wrong[f"{table}.{name}"] = set(columns) ^ set(known[shape_of[name]].__struct_fields__)
    assert not wrong


def spoken(tree: ast.Module) -> list[ast.Constant]:
    """Find the texts of a module that are no docstrings."""
    silent = docstrings(tree)
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in silent
    ]


@pytest.mark.parametrize("table", TABLES)
def test_every_query_has_a_name_of_its_own_and_is_sent_by_the_module_beside_it(table: str) -> None:
    headings = re.findall(r"^-- *name\b.*$", (STORE / f"{table}.sql").read_text(), re.MULTILINE)

    assert len(headings) == len(queries(table))
    assert set(named_in(STORE / f"{table}.py")) == set(queries(table))


def test_every_store_module_has_its_sql() -> None:
    assert {path.stem for path in STORE.glob("*.py")} - {"__init__", "db"} == set(TABLES)


def test_no_other_module_holds_sql() -> None:
    allowed = ("schemas/store/", "migrations/", "tests/", "gateway/bench/")  # bench measures other people's SQL, too

    assert not [
        f"{path}:{text.lineno}: {text.value}"
        for path, tree in modules().items()
        if not path.startswith(allowed)
        for text in spoken(tree)
        if LOOKS_LIKE_SQL.search(text.value)
    ]


def test_migrations_are_numbered_without_a_gap() -> None:
    files = sorted(path.name for path in (ROOT / "migrations").glob("*.sql"))

    assert all(re.fullmatch(r"\d{4}_[a-z0-9_]+\.sql", name) for name in files)
    assert [migration.version for migration in migrations.available()] == list(range(1, len(files) + 1))
