"""The command line as a whole: what it lists, what it imports, and how it ends."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import COMMANDS, EXIT_CODES, cli
from schemas import errors


def penstock(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "gateway", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=30)


def imported_by(*arguments: str) -> set[str]:
    code = (
        f"import sys; from gateway.cli import cli; cli({list(arguments)}, standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.splitlines()[-1].split())


def test_help_lists_every_command_with_its_line() -> None:
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=200).stdout
    for name, line in COMMANDS.items():
        assert f" {name} " in shown
        assert line.split(":")[0] in shown


def test_help_imports_no_command() -> None:
    assert not {f"gateway.cli.{name}" for name in COMMANDS} & imported_by("--help")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself_without_a_web_framework(command: str) -> None:
    modules = imported_by(command, "--help")
    assert not modules & {"litestar", "uvicorn", "asyncpg", "arq"}


def test_a_misspelt_command_is_a_usage_error_with_a_suggestion() -> None:
    done = penstock("schedule")
    assert done.returncode == 2
    assert "schedules" in done.stderr


def test_the_version_is_that_of_the_distribution() -> None:
    assert penstock("--version").stdout.strip() == "penstock, version 0.1.0"


def test_an_error_is_one_line_on_stderr() -> None:
    done = penstock("migrate")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("penstock: set PENSTOCK_DATABASE_URL")
    assert done.stderr.count("\n") == 1


def test_a_misspelt_setting_is_named() -> None:
    done = penstock("gateway", PENSTOCK_PROT="1")
    assert done.returncode == 2
    assert done.stderr == "penstock: PENSTOCK_PROT is not a setting; did you mean PENSTOCK_PORT?\n"


def test_a_database_that_is_away_is_an_unreachable_server() -> None:
    done = penstock("migrate", PENSTOCK_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert done.returncode == 6
    assert "cannot be used" in done.stderr


def test_every_exit_code_belongs_to_an_error_of_ours() -> None:
    from gateway.cli import client

    kinds = [kind for module in (errors, client) for kind in vars(module).values() if isinstance(kind, type)]
    codes = {kind.code for kind in kinds if issubclass(kind, errors.PenstockError)}
    assert set(EXIT_CODES) <= codes


def test_doctor_finds_nothing_broken_where_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = penstock("doctor", HOME=str(tmp_path), PENSTOCK_URL="http://127.0.0.1:1")
    assert done.returncode == 0, done.stdout
    assert "nothing runs here" in done.stdout


def test_doctor_fails_when_a_server_is_away_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = penstock("doctor", "--json", HOME=str(tmp_path), PENSTOCK_REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == 1
    assert '"healthy": false' in done.stdout


def test_the_health_check_of_a_container_fails_without_a_gateway() -> None:
    assert penstock("doctor", "--gateway-only", PENSTOCK_PORT="1").returncode == 1
