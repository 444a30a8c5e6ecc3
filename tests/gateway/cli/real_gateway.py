"""Client commands in this process, against a gateway and a runner that are real."""

from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result

from gateway.cli import cli
from tests.system import KEY, Penstock

Command = Callable[..., Result]


def command_of(system: Penstock, home: Path) -> Command:
    """Make a function that runs `penstock ARGS` as somebody at a terminal who has the admin key."""
    environ = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": None,
        "PENSTOCK_URL": system.url,
        "PENSTOCK_API_KEY": KEY,
        "PENSTOCK_TOKEN": None,
        "PENSTOCK_SENDER_SECRET": None,
        "COLUMNS": "160",
    }

    def run(*args: str, stdin: str | bytes | None = None, **changes: str | None) -> Result:
        return CliRunner().invoke(cli, list(args), input=stdin, env=environ | changes, prog_name="penstock")

    return run
