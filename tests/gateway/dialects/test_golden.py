"""Each dialect answers as its product does: all golden exchanges of a dialect, in the order of their names."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import dialects
from gateway.embedded import EmbeddedServers
from tests.conftest import FLOWS
from tests.golden import Stage
from tests.house.code import ROOT
from tests.system import Penstock

FIXTURES = ROOT / "tests" / "fixtures" / "dialects"


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


@pytest.mark.parametrize("name", sorted(dialects.discover()))
async def test_every_golden_exchange_goes_as_it_is_written_down(name: str, stage: Stage) -> None:
    for file in sorted((FIXTURES / name).glob("*.json")):
        assert await stage.play(json.loads(file.read_text())) == [], file.name
