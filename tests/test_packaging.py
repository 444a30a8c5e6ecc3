"""What is shipped besides the code: Makefile, continuous integration, container image."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from gateway.cli import COMMANDS

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SHIPPED = ("Makefile", "Dockerfile", ".dockerignore", ".ci/run", "pyproject.toml")


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def final_stage() -> str:
    return "FROM" + DOCKERFILE.rpartition("\nFROM")[2]


def test_continuous_integration_runs_the_tests_as_a_person_does() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -eu" in text
    assert "make test" in text
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("target", ["help", "demo", "test", "up"])
def test_the_makefile_knows_the_target(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
    assert f"make {target} " in subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2\n')
    fake.chmod(0o755)
    for tool in ("make", "sh"):
        found = subprocess.run(["sh", "-c", f"command -v {tool}"], capture_output=True, text=True, check=True)
        (tmp_path / tool).symlink_to(found.stdout.strip())
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "pyproject.toml").touch()
    done = subprocess.run(
        ["make", "demo"], cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.2" in done.stderr


def test_the_image_does_not_run_as_root() -> None:
    assert "USER 10001:10001" in final_stage()


def test_the_image_has_one_entry_point_and_its_roles_are_commands_of_ours() -> None:
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["penstock"]
    assert json.loads(instructions("CMD")[0])[0] in COMMANDS
    assert {"gateway", "runner", "migrate"} <= set(COMMANDS)


def test_the_image_checks_its_health_with_our_own_command() -> None:
    (check,) = instructions("HEALTHCHECK")
    program, command, *_ = json.loads(check.partition("CMD ")[2])
    assert program == "penstock"
    assert command in COMMANDS


def test_the_image_stops_by_the_signal_that_drains() -> None:
    assert instructions("STOPSIGNAL") == ["SIGTERM"]


def test_the_build_stage_leaves_nothing_but_the_virtual_environment() -> None:
    assert len(instructions("FROM")) == 2
    assert re.findall(r"^(?:COPY|ADD) (.*)$", final_stage(), re.MULTILINE) == [
        "--from=build /opt/penstock /opt/penstock"
    ]


def test_what_the_build_copies_exists_and_is_sent_to_it() -> None:
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]}
    assert copied <= sent
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("name", SHIPPED)
def test_no_file_names_a_package_registry_or_holds_a_secret(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"(?i)index-url|trusted-host|pypi|https?://[\w.]*(registry|docker|quay|ghcr)", text)
    assert not re.search(r"ps[kt]_\w{16,}", text)


def test_settings_of_the_image_are_settings_of_ours() -> None:
    from schemas.settings import load

    words = dict(pair.split("=", 1) for line in instructions("ENV") for pair in line.split())
    settings = load({name: value for name, value in words.items() if name.startswith("PENSTOCK_")})
    assert settings.host == "0.0.0.0"
