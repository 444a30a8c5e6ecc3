"""What can be extended or set is written down: sources on their page, settings in the README, errors with statuses."""

import importlib
import pkgutil
import re
from http import HTTPStatus

import pytest

import gateway
import runner
from gateway import sources, sources_table
from gateway.errors import CLIENT_GONE, STATUS
from gateway.server_process import ServerFailed
from schemas.errors import LeaseLost, PenstockError, SettingsError
from schemas.settings import PREFIX, Settings
from tests.house.code import ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "sources"
SETTINGS_OF_A_ROW = re.compile(rf"^\| (`{PREFIX}[^|]+) \|", re.MULTILINE)
SETTING = re.compile(rf"{PREFIX}\w+")
NEVER_AN_ANSWER = {LeaseLost, SettingsError, ServerFailed}  # they end a runner's claim, or a start


def readme() -> str:
    return (ROOT / "README.md").read_text()


def kinds(parent: type[PenstockError] = PenstockError) -> set[type[PenstockError]]:
    return {parent}.union(*(kinds(child) for child in parent.__subclasses__()))


@pytest.mark.parametrize("name", sorted(sources.discover()))
def test_every_source_has_captured_requests(name: str) -> None:
    assert sources.discover()[name].title
    assert [path for path in (FIXTURES / name).glob("*.http") if ".tampered" not in path.suffixes]


@pytest.mark.parametrize("name", sorted(name for name, source in sources.discover().items() if source.schemes))
def test_every_source_that_signs_has_a_tampered_twin(name: str) -> None:
    twins = [path.name for path in (FIXTURES / name).glob("*.tampered.http")]

    assert twins
    assert all((FIXTURES / name / twin.replace(".tampered", "")).is_file() for twin in twins)


def test_every_folder_of_captured_requests_belongs_to_a_source() -> None:
    assert {path.name for path in FIXTURES.iterdir()} == set(sources.discover())


def test_the_page_of_sources_is_what_they_say_of_themselves() -> None:
    written = (ROOT / "docs" / "sources.md").read_text()

    assert written == sources_table.render(), "run: python -m gateway.sources_table > docs/sources.md"


@pytest.mark.parametrize("name", sorted(sources.discover()))
def test_every_source_is_named_in_the_readme_and_says_how_to_set_it_up(name: str) -> None:
    assert f"`{name}`" in readme()
    assert sources.discover()[name].setup
    assert sources.discover()[name].samples


def test_the_readme_explains_exactly_the_settings_there_are() -> None:
    explained = [name for row in SETTINGS_OF_A_ROW.findall(readme()) for name in SETTING.findall(row)]

    assert sorted(explained) == sorted(PREFIX + name.upper() for name in Settings.__struct_fields__)


def test_the_status_of_every_error_was_decided() -> None:
    for package in (gateway, runner):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not info.name.endswith("__main__"):
                importlib.import_module(info.name)

    undecided = [
        kind
        for kind in kinds() - {PenstockError}
        if not (NEVER_AN_ANSWER | STATUS.keys() - {PenstockError}) & set(kind.__mro__)
        and not kind.__module__.startswith("gateway.cli")  # printed, not answered
    ]
    assert not undecided


def test_the_table_of_statuses_holds_errors_and_statuses_only() -> None:
    assert set(STATUS) <= kinds()
    assert set(STATUS.values()) <= {status.value for status in HTTPStatus} | {CLIENT_GONE}
