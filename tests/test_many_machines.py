"""The compose file says what the page beside it promises, in words that our roles and settings know."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli import cli
from schemas.settings import PREFIX, load

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docs" / "compose.yaml"
ROLES = ("gateway", "runner", "runner-gpu")
GIVEN = {"POSTGRES_PASSWORD": "p", "PENSTOCK_ADMIN_KEY": "psk_0123456789abcdef", "PENSTOCK_SECRET_KEYS": "k"}


def services() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def filled(text: str) -> str:
    """Put values in the place of variables, as compose does."""

    def value(match: re.Match[str]) -> str:
        return GIVEN.get(match["name"], match["default"] or "")

    return re.sub(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?[^}]*)?\}", value, text)


def test_two_gateways_and_three_runners_one_of_which_serves_gpu() -> None:
    replicas = {name: services()[name].get("deploy", {}).get("replicas", 1) for name in ROLES}

    assert replicas == {"gateway": 2, "runner": 2, "runner-gpu": 1}
    assert services()["runner-gpu"]["environment"]["PENSTOCK_QUEUES"] == "gpu"


@pytest.mark.parametrize("name", [*ROLES, "migrate"])
def test_each_role_is_a_command_with_settings_that_it_knows(name: str) -> None:
    service = services()[name]
    environ = {key: filled(value) for key, value in service["environment"].items() if key.startswith(PREFIX)}

    assert service["command"][0] in cli.commands
    assert load(environ).database_url == "postgresql://penstock:p@postgres/penstock"


@pytest.mark.parametrize("name", ROLES)
def test_each_role_gets_the_time_that_it_needs_to_drain(name: str) -> None:
    service = services()[name]

    assert float(service["stop_grace_period"].removesuffix("s")) > load({}).drain_s + 5
    assert service["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_everything_that_is_mentioned_is_there() -> None:
    whole = yaml.safe_load(COMPOSE.read_text())

    assert all(
        needed in whole["services"] for service in services().values() for needed in service.get("depends_on", {})
    )
    assert (COMPOSE.parent / services()["gateway"]["build"] / "Dockerfile").is_file()
    assert {source["source"] for source in services()["proxy"]["configs"]} == set(whole["configs"])
