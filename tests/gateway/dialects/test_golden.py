"""Each dialect answers as its product does: all golden exchanges of a dialect, in the order of their names."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import dialects
from gateway.embedded import EmbeddedServers
from tests.conftest import FLOWS
from tests.golden import Stage
from tests.house.code import ROOT
from tests.system import Penstock

FIXTURES = ROOT / "tests" / "fixtures" / "dialects"


@pytest.fixture
def play(tmp_path: Path) -> Stage:
    """A stage on which nothing is sent."""
    nowhere = "postgresql://nowhere"
    return Stage(Penstock(database_url=nowhere, redis_url=nowhere, directory=tmp_path, pipelines=FLOWS))


@pytest.fixture
async def stage(name: str, servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A Penstock of the dialect's own, with the pipelines beside its exchanges, or those of all tests."""
    own = FIXTURES / name / "pipelines"
    async with Penstock(
        database_url=database_url,
        redis_url=servers.redis_url,
        directory=tmp_path,
        pipelines=own if own.is_dir() else FLOWS,
    ) as penstock:
        await penstock.start()
        yield Stage(penstock)


@pytest.mark.parametrize(
    ("wanted", "given", "places"),
    [
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, []),
        ({"a": 1}, {"a": 1.0}, ["/a"]),
        ({"a": 1}, {"a": True}, ["/a"]),
        ({"a": 1}, {"a": "1"}, ["/a"]),
        ({"a": None}, {}, ["/a"]),
        ({}, {"a": None}, ["/a"]),
        ([1], [1, 2], ["/"]),
        ({"a": "x"}, {"a": ["x"]}, ["/a"]),
        ({"a": "<int>"}, {"a": 5}, []),
        ({"a": "<int>"}, {"a": "5"}, ["/a"]),
        ({"a": "<int>"}, {"a": True}, ["/a"]),
        ({"a": "<number>"}, {"a": 0.5}, []),
        ({"a": "<text>"}, {"a": ""}, ["/a"]),
        ({"a": "<text>"}, {"a": None}, ["/a"]),
        ({"a": "<time>"}, {"a": "2026-01-02T03:04:05Z"}, []),
        ({"a": "<time>"}, {"a": "2026-01-02"}, ["/a"]),
        ({"a": "run <int> of <uuid>."}, {"a": "run 5 of 0198f0a0-0000-7000-8000-000000000001."}, []),
        ({"a": "run <int> of <uuid>."}, {"a": "run 5 of 0198f0a0-0000-7000-8000-000000000001!"}, ["/a"]),
    ],
)
def test_what_differs_is_found(wanted: Any, given: Any, places: list[str], play: Stage) -> None:
    assert [line.partition(":")[0] for line in play.differences(wanted, given)] == places


def test_what_was_remembered_stands_for_itself(play: Stage) -> None:
    assert play.differences({"id": "<int:run>", "at": "<time:began>"}, {"id": 7, "at": "2026-01-02T03:04:05Z"}) == []
    assert play.differences("/runs/{run}/<text>", "/runs/7/blocks") == []
    assert play.differences("/runs/{run}", "/runs/8") == ["/: '/runs/8' instead of '/runs/{run}'"]


@pytest.mark.parametrize("name", sorted(dialects.discover()))
async def test_every_golden_exchange_goes_as_it_is_written_down(name: str, stage: Stage) -> None:
    for file in sorted((FIXTURES / name).glob("*.json")):
        assert await stage.play(json.loads(file.read_text())) == [], file.name
