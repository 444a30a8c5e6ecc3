"""`penstock schedules` with a cron or an interval: what is asked of the gateway, and how it is shown."""

from typing import Any

import msgspec
import pytest

from tests.gateway.cli.canned_gateway import SCHEDULE_ID, CannedGateway, a_schedule
from tests.gateway.cli.conftest import Penstock


def a_time_schedule(**changes: Any) -> dict[str, Any]:
    fields = {
        "name": "nightly",
        "kind": "time",
        "source": "generic",
        "source_config": {},
        "cron": "0 3 * * *",
        "every_s": None,
        "timezone": "Europe/Paris",
        "start_at": None,
        "end_at": None,
        "catchup": True,
        "jitter_s": 90,
        "overlap": "skip",
        "sla_s": None,
        "run_timeout_s": 3600.0,
        "max_queue_age_s": None,
        "notify": {},
        "next_fire_at": "2026-11-21T02:00:41Z",
    }
    return a_schedule(**fields | changes)


def test_a_schedule_is_created_with_a_cron(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/schedules", a_time_schedule(), status=201)
    named = ["--pipeline", "orders", "--name", "nightly", "--cron", "0 3 * * *", "--timezone", "Europe/Paris"]
    more = [
        "--start",
        "2026-12-01",
        "--end",
        "2027-12-01T00:00:00Z",
        "--catchup",
        "--jitter",
        "90s",
        "--overlap",
        "skip",
    ]
    limits = ["--sla", "2h", "--run-timeout", "1h", "--max-queue-age", "1d", "--max-active-runs", "2"]
    result = penstock("schedules", "create", *named, *more, *limits, "--utc")

    assert msgspec.json.decode(server.asked[-1].body) == {
        "pipeline_id": "orders",
        "name": "nightly",
        "kind": "time",
        "cron": "0 3 * * *",
        "timezone": "Europe/Paris",
        "start_at": "2026-11-30T23:00:00Z",
        "end_at": "2027-12-01T00:00:00Z",
        "catchup": True,
        "jitter_s": 90,
        "overlap": "skip",
        "sla_s": 7200,
        "run_timeout_s": 3600,
        "max_queue_age_s": 86_400,
        "max_active_runs": 2,
    }
    assert (result.exit_code, result.stderr) == (0, "It fires next at 2026-11-21 02:00:41 +00:00.\n")
    assert result.stdout.splitlines() == [
        "schedule\tnightly",
        "number\t7",
        f"id\t{SCHEDULE_ID}",
        "pipeline\torders",
        "state\tactive",
        "on paused\tqueue",
        "kind\ttime",
        "when\t0 3 * * * (Europe/Paris)",
        "next\t2026-11-21 02:00:41 +00:00",
        "last fired\t",
        "start\t",
        "end\t",
        "catch up\tevery missed slot",
        "jitter\t1 m 30 s",
        "overlap\tskip",
        "max active runs\t",
        "run timeout\t1 h 00 m",
        "max queue age\t",
        "sla\t",
        "created\t2026-11-20 09:00:00 +00:00",
    ]


def test_a_schedule_is_created_with_an_interval(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/schedules", a_time_schedule(), status=201)
    assert penstock("schedules", "create", "--pipeline", "p", "--name", "n", "--every", "15m").exit_code == 0

    assert msgspec.json.decode(server.asked[-1].body) == {
        "pipeline_id": "p",
        "name": "n",
        "kind": "time",
        "every_s": 900,
    }


@pytest.mark.parametrize("wrong", [["--start", "soon"], ["--every", "often"], ["--overlap", "maybe"]])
def test_what_cannot_be_read_is_wrong_usage(penstock: Penstock, wrong: list[str]) -> None:
    named = ["--pipeline", "p", "--name", "n", "--cron", "@daily"]
    assert penstock("schedules", "create", *named, *wrong).exit_code == 2


def test_the_next_slots_are_listed(server: CannedGateway, penstock: Penstock) -> None:
    slot = {"slot": "2026-11-21T02:00:00Z", "due_at": "2026-11-21T02:00:41Z"}
    server.answers("GET", "/v1/schedules/7/next", {"items": [slot], "next_cursor": None})
    result = penstock("schedules", "next", "7", "--count", "1", "--utc")
    assert result.stdout == "2026-11-21 02:00:00 +00:00\t2026-11-21 02:00:41 +00:00\n"
    assert server.asked[-1].target == "/v1/schedules/7/next?count=1"

    server.answers("GET", "/v1/schedules/8/next", {"items": [], "next_cursor": None})
    assert penstock("schedules", "next", "8").stderr == "Schedule 8 has ended.\n"


def test_the_status_says_what_fires_when(server: CannedGateway, penstock: Penstock) -> None:
    clock = {
        "schedule_id": SCHEDULE_ID,
        "number": 7,
        "name": "nightly",
        "pipeline_id": "orders",
        "cron": None,
        "every_s": 900,
        "timezone": "UTC",
        "is_paused": False,
        "next_fire_at": "2026-11-21T02:00:00Z",
        "last_slot": "2026-11-21T01:45:00Z",
        "last_fired_at": "2026-11-21T01:45:00.010Z",
        "skipped": 3,
        "lag_s": 0.0,
    }
    clocks = [clock, clock | {"is_paused": True, "lag_s": None}, clock | {"next_fire_at": None, "lag_s": None}]
    server.answers("GET", "/v1/scheduler", {"items": clocks, "next_cursor": None})
    result = penstock("schedules", "status", "--utc")

    shown = [line.split("\t") for line in result.stdout.splitlines()]
    times = ["2026-11-21 02:00:00 +00:00", "2026-11-21 01:45:00 +00:00"]
    assert shown[0] == ["7", "nightly", "orders", "every 15 m 00 s", "active", *times, "3", ""]
    assert [row[4] for row in shown] == ["active", "paused", "ended"]


def test_the_list_shows_the_cron_in_place_of_a_source(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/schedules", {"items": [a_time_schedule()], "next_cursor": None})
    assert penstock("schedules", "ls", "--utc").stdout == (
        "7\tnightly\torders\ttime\t0 3 * * * (Europe/Paris)\tactive\t2026-11-21 02:00:41 +00:00\t"
        f"2026-11-20 09:00:00 +00:00\t{SCHEDULE_ID}\n"
    )
