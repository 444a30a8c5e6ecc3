"""Fixtures of the client commands' tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from tests.gateway.cli.canned_gateway import CannedGateway, canned_gateway

Penstock = Callable[..., Result]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what would colour the outputs."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[CannedGateway]:
    """A gateway with canned answers."""
    with canned_gateway() as gateway:
        yield gateway


@pytest.fixture
def penstock(server: CannedGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Penstock:
    """Runs a client command against that gateway, with a home and a current folder of its own."""
    monkeypatch.chdir(tmp_path)
    environ = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": None,
        "PENSTOCK_URL": server.url,
        "PENSTOCK_API_KEY": "psk_test",
        "PENSTOCK_API_KEY_FILE": None,
        "COLUMNS": "160",
    }

    def run(*args: str, stdin: str | None = None, **changes: str | None) -> Result:
        return CliRunner().invoke(cli, list(args), input=stdin, env=environ | changes, prog_name="penstock")

    return run
