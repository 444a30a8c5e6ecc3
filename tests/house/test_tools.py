"""The tools that judge the code have nothing to say: who imports whom, lint, format, types."""

import subprocess
import sys

from tests.house.code import ROOT


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )


def test_every_module_imports_only_what_its_place_allows() -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-logo",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert found.returncode == 0, found.stdout + found.stderr


def test_ruff_finds_nothing() -> None:
    found = run("ruff", "check", "--quiet", ".")

    assert found.returncode == 0, found.stdout + found.stderr


def test_every_file_is_formatted() -> None:
    found = run("ruff", "format", "--check", "--quiet", "--diff", ".")

    assert found.returncode == 0, found.stdout + found.stderr


def test_mypy_is_content_in_its_strictest_mode() -> None:
    found = run("mypy", "--strict", "--no-error-summary")

    assert found.returncode == 0, found.stdout + found.stderr
