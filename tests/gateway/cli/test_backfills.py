"""`penstock backfill` and `penstock backfills` against canned answers."""

from typing import Any

import msgspec
import pytest

from gateway.cli import backfills
from tests.gateway.cli.canned_gateway import CannedGateway
from tests.gateway.cli.conftest import Penstock

BACKFILL_ID = "01980000-0000-7000-8000-000000000003"
HERE = f"/v1/backfills/{BACKFILL_ID}"
ASKED = ("backfill", "orders", "--start", "2024-01-01", "--end", "2024-01-31")


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfills, "POLL_S", 0.0)


def a_backfill(**changes: Any) -> dict[str, Any]:
    return {
        "id": BACKFILL_ID,
        "number": 3,
        "pipeline_id": "orders",
        "schedule_id": None,
        "key": None,
        "start": "2024-01-01T00:00:00Z",
        "end": "2024-01-31T00:00:00Z",
        "every": "day",
        "timezone": "UTC",
        "variables": {},
        "max_active_runs": 2,
        "state": "running",
        "total": 31,
        "queued": 29,
        "running": 2,
        "success": 0,
        "failed": 0,
        "cancelled": 0,
        "created_at": "2026-11-20T09:40:00Z",
        "cancelled_at": None,
    } | changes


DONE = a_backfill(state="completed", queued=0, running=0, success=31)


def test_a_backfill_is_watched_to_its_end(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/pipelines/orders/backfills", a_backfill(), status=202)
    for _ in range(2):  # nothing new is told once
        server.answers("GET", HERE, a_backfill(queued=15, success=14))
    server.answers("GET", HERE, DONE)

    result = penstock(*ASKED, "--max-active-runs", "2", "-p", "region=eu", "-d", '{"n": 1e400}', "--schedule", "7")

    assert result.stdout == (
        "running\t0/31\t0 succeeded, 2 running\n"
        "running\t14/31\t14 succeeded, 2 running\n"
        "completed\t31/31\t31 succeeded\n"
    )
    assert result.exit_code == 0
    assert msgspec.json.decode(server.asked[0].body, type=dict[str, msgspec.Raw]) == {
        "variables": msgspec.Raw(b'{"n":1e400,"region":"eu"}'),
        "schedule_id": msgspec.Raw(b'"7"'),
        "start": msgspec.Raw(b'"2024-01-01"'),
        "end": msgspec.Raw(b'"2024-01-31"'),
        "every": msgspec.Raw(b'"day"'),
        "max_active_runs": msgspec.Raw(b"2"),
        "dry_run": msgspec.Raw(b"false"),
    }


def test_a_backfill_with_failed_runs_is_a_failure_that_says_where_to_look(
    server: CannedGateway, penstock: Penstock
) -> None:
    server.answers("POST", "/v1/pipelines/orders/backfills", DONE | {"success": 28, "failed": 3})
    result = penstock(*ASKED)
    assert result.exit_code == 7
    assert result.stderr == (
        "penstock: Backfill #3 has ended: 28 succeeded, 3 failed. "
        "Look into it: penstock runs ls --backfill 3 --state failed\n"
    )


def test_waiting_has_an_end_if_one_is_asked_for(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/backfills/3", a_backfill())
    server.answers("GET", HERE, a_backfill())
    result = penstock("backfills", "watch", "3", "--timeout", "0.01")
    assert result.exit_code == 8
    assert "penstock backfills watch 3" in result.stderr


def test_without_waiting_it_is_described(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/pipelines/orders/backfills", a_backfill(variables={"a": 1}), status=202)
    result = penstock(*ASKED, "--no-wait", "--utc")
    assert result.stdout.splitlines()[:8] == [
        "backfill\t3",
        f"id\t{BACKFILL_ID}",
        "pipeline\torders",
        "schedule\t",
        "key\t",
        "state\trunning",
        "progress\t0 of 31 ended: 0 succeeded, 2 running",
        "first date\t2024-01-01 00:00:00 +00:00",
    ]
    assert result.stderr == "Watch it: penstock backfills watch 3\n"


def test_json_is_what_the_api_sent_at_the_end(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/pipelines/orders/backfills", a_backfill(), status=202)
    server.answers("GET", HERE, DONE)
    result = penstock(*ASKED, "--json")
    assert msgspec.json.decode(result.stdout) == DONE


def test_a_dry_run_shows_the_dates(server: CannedGateway, penstock: Penstock) -> None:
    days = ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"]
    server.answers(
        "POST", "/v1/pipelines/orders/backfills", {"count": 2, "first": days[0], "last": days[1], "dates": days}
    )
    result = penstock(*ASKED, "--dry-run")
    assert result.stdout.splitlines() == [
        "runs\t2",
        "first date\t2024-01-01 00:00:00 +00:00",
        "last date\t2024-01-02 00:00:00 +00:00",
        "dates\t2024-01-01 00:00:00 +00:00",
        "dates\t2024-01-02 00:00:00 +00:00",
    ]
    assert msgspec.json.decode(server.asked[0].body)["dry_run"] is True


def test_backfills_are_listed(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/backfills", {"items": [a_backfill(), DONE], "next_cursor": None})
    result = penstock("backfills", "ls", "--pipeline", "orders", "--state", "running")
    assert result.stdout == (
        f"3\torders\trunning\t0/31\t0\t2024-01-01 00:00:00 +00:00\t2024-01-31 00:00:00 +00:00\t{BACKFILL_ID}\n"
        f"3\torders\tcompleted\t31/31\t0\t2024-01-01 00:00:00 +00:00\t2024-01-31 00:00:00 +00:00\t{BACKFILL_ID}\n"
    )
    assert "pipeline_id=orders&state=running" in server.asked[0].target


@pytest.mark.parametrize("verb", ["pause", "unpause", "cancel"])
def test_a_backfill_is_steered(server: CannedGateway, penstock: Penstock, verb: str) -> None:
    server.answers("POST", f"/v1/backfills/3/{verb}", a_backfill())
    result = penstock("backfills", verb, "3")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "backfill\t3")


def test_a_limit_is_changed(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("PATCH", "/v1/backfills/3", a_backfill())
    assert penstock("backfills", "limit", "3", "8").exit_code == 0
    assert server.asked[0].body == b'{"max_active_runs":8}'
