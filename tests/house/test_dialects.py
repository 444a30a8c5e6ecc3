"""A dialect is a folder, golden exchanges and a page; each of its routes wants a key or says why not."""

import pytest

from gateway import dialects
from gateway.dialects import Dialect, routes
from gateway.dialects.__main__ import table, tables
from gateway.errors import envelope_for, problem_json
from tests.house.code import ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "dialects"
FOLDERS = sorted(path.parent.name for path in (ROOT / "gateway" / "dialects").glob("*/__init__.py"))
every_dialect = pytest.mark.parametrize("dialect", dialects.discover().values(), ids=sorted(dialects.discover()))


def test_every_folder_is_a_dialect_of_that_name() -> None:
    assert {name: dialect.name for name, dialect in dialects.discover().items()} == {name: name for name in FOLDERS}


@every_dialect
def test_every_dialect_has_golden_exchanges(dialect: Dialect) -> None:
    assert list((FIXTURES / dialect.name).glob("*.json"))


def test_every_folder_of_golden_exchanges_belongs_to_a_dialect() -> None:
    assert {path.name for path in FIXTURES.iterdir()} == set(FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("module", ["wire", "routes", "errors"])
def test_every_dialect_is_laid_out_like_the_others(name: str, module: str) -> None:
    assert (ROOT / "gateway" / "dialects" / name / f"{module}.py").is_file()


@every_dialect
def test_every_route_wants_a_key_or_says_why_it_is_open(dialect: Dialect) -> None:
    unguarded = {f"{route.method} {route.path}" for route in routes(dialect) if route.role is None}

    assert unguarded == set(dialect.open_routes)
    assert all(dialect.open_routes.values())


@every_dialect
def test_every_path_of_a_dialect_has_its_envelope(dialect: Dialect) -> None:
    bare = [route.path for route in routes(dialect) if envelope_for(route.path, dialect.envelopes) is problem_json]

    assert not bare


def test_no_two_dialects_serve_the_same_route_or_claim_the_same_paths() -> None:
    served = [
        (route.method, "/".join("{}" if part.startswith("{") else part for part in route.path.split("/")))
        for dialect in dialects.discover().values()
        for route in routes(dialect)
    ]

    assert len(served) == len(set(served))
    assert dialects.envelopes(dialects.discover().values())


@every_dialect
def test_every_dialect_has_a_page_and_its_routes_are_listed(dialect: Dialect) -> None:
    page = (ROOT / "docs" / "dialects" / "README.md").read_text()

    assert (ROOT / "docs" / "dialects" / f"{dialect.name}.md").is_file()
    assert f"]({dialect.name}.md)" in page
    assert f"### {dialect.title}\n\n{table(dialect)}" in page, "`python -m gateway.dialects` prints what belongs here"


def test_the_page_lists_no_route_that_is_gone() -> None:
    listed = (ROOT / "docs" / "dialects" / "README.md").read_text().partition("\n## Routes\n")[2]

    assert listed.strip() == tables()
