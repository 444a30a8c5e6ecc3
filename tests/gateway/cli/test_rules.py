"""`penstock schedules create` and `edit` with a filter, a mapping and a dedupe key."""

from typing import Any

import msgspec
import pytest

from tests.gateway.cli.canned_gateway import CannedGateway, a_schedule
from tests.gateway.cli.conftest import Penstock

RULES: dict[str, Any] = {
    "filter": "body.a &&\n  body.b",
    "mapping": {"sha": "body.after", "by": "body.by"},
    "dedupe": "body.id",
    "split": True,
}


def asked(server: CannedGateway) -> Any:
    return msgspec.json.decode(server.asked[-1].body)


def test_a_schedule_is_created_with_rules_and_shows_them(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/schedules", a_schedule(**RULES), status=201)
    mapped = ["--map", "sha=body.after", "--map", "by = body.by == 'x'"]

    result = penstock(
        *("schedules", "create", "--pipeline", "hello", "--name", "first", "--filter", "body.a"),
        *(*mapped, "--dedupe", "body.id", "--split"),
    )

    assert result.exit_code == 0, result.stderr
    assert asked(server) == {
        "pipeline_id": "hello",
        "name": "first",
        "kind": "api",
        "source": "generic",
        "filter": "body.a",
        "mapping": {"sha": "body.after", "by": " body.by == 'x'"},
        "dedupe": "body.id",
        "split": True,
    }
    shown = result.stdout.splitlines()
    for line in ("filter", "body.a &&", "  body.b", "mapping of sha", "body.after", "dedupe", "body.id", "split"):
        assert any(line in each for each in shown), line


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (["--filter", "body.a"], {"filter": "body.a"}),
        (["--filter", "", "--dedupe", ""], {"filter": None, "dedupe": None}),
        (["--map", "by=1"], {"mapping": {"sha": "body.after", "by": "1"}}),
        (["--map", "sha=", "--map", "new=2"], {"mapping": {"by": "body.by", "new": "2"}}),
        (["--no-split", "--name", "second"], {"name": "second", "split": False}),
        (["--variables", '{"a": 1}'], {"variables": {"a": 1}}),
    ],
)
def test_edit_changes_what_is_named(
    options: list[str], body: dict[str, Any], server: CannedGateway, penstock: Penstock
) -> None:
    server.answers("GET", "/v1/schedules/7", a_schedule(**RULES))
    server.answers("PATCH", "/v1/schedules/7", a_schedule(**RULES))

    result = penstock("schedules", "edit", "7", *options)

    assert (result.exit_code, asked(server)) == (0, body), result.stderr


def test_edit_wants_to_know_what_to_change(penstock: Penstock) -> None:
    result = penstock("schedules", "edit", "7")

    assert result.exit_code == 2
    assert "Say what to change" in result.stderr


def test_a_mapping_without_an_expression_is_explained(penstock: Penstock) -> None:
    result = penstock("schedules", "edit", "7", "--filter", "true", "--no-split", "--map", "sha")

    assert result.exit_code == 2
    assert "'sha' is not NAME=CEL" in result.stderr


def test_the_place_of_an_error_is_shown(server: CannedGateway, penstock: Penstock) -> None:
    message = "line 1, column 10: it ends too early\nbody.a ==\n         ^"
    problem = {
        "type": "/problems/invalid",
        "title": "The request is not valid",
        "status": 422,
        "detail": "filter: line 1, column 10: it ends too early",
        "errors": [{"pointer": "/filter", "message": message}],
    }
    server.answers("PATCH", "/v1/schedules/7", problem, status=422)

    result = penstock("schedules", "edit", "7", "--filter", "body.a ==")

    assert result.exit_code != 0
    assert result.stderr.splitlines() == [
        "penstock: filter: line 1, column 10: it ends too early",
        "  /filter: line 1, column 10: it ends too early",
        "    body.a ==",
        "             ^",
    ]
