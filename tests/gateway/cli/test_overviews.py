"""`penstock status`, `search`, `purge` and the filters of `runs ls`, against canned answers."""

import datetime as dt
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from tests.gateway.cli.canned_gateway import RUN_ID, CannedGateway
from tests.gateway.cli.conftest import Penstock

PURGE_ID = "01980000-0000-7000-8000-000000000099"
COUNTS = {"runs": 1200, "events": 1300, "changes": 3600, "log_lines": 40, "outputs": 7}
PREVIEW = {"days": 30, "older_than": "2026-10-21T09:40:00Z", "bytes": 5_242_880, **COUNTS}


def a_purge(**changes: Any) -> dict[str, Any]:
    return {
        "id": PURGE_ID,
        "days": 30,
        "older_than": "2026-10-21T09:40:00Z",
        "requested_by": "ada",
        "is_automatic": False,
        "phase": "done",
        "progress": 1.0,
        **COUNTS,
        "partitions": 3,
        "created_at": "2026-11-20T09:40:00Z",
        "finished_at": "2026-11-20T09:40:09Z",
        **changes,
    }


def test_a_dry_run_of_a_purge_asks_for_the_preview_only(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/purge", PREVIEW)
    result = penstock("purge", "--days", "30", "--dry-run", "--utc")

    assert result.stdout.splitlines() == [
        "older than\t2026-10-21 09:40:00 +00:00",
        "runs\t1200",
        "events\t1300",
        "changes\t3600",
        "log lines\t40",
        "outputs\t7",
        "size\tabout 5.0 MiB",
    ]
    assert [msgspec.json.decode(one.body) for one in server.asked] == [{"days": 30, "dry_run": True}]


def test_a_purge_is_waited_for_until_it_is_done(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/purge", PREVIEW)
    server.answers("POST", "/v1/purge", a_purge(phase="runs", progress=0.1, finished_at=None), status=202)
    server.answers("GET", f"/v1/purges/{PURGE_ID}", a_purge(phase="events", progress=0.9, finished_at=None))
    server.answers("GET", f"/v1/purges/{PURGE_ID}", a_purge())
    result = penstock("purge", "--days", "30", "--yes", "--json")

    assert msgspec.json.decode(result.stdout) == a_purge()
    assert [one.method for one in server.asked] == ["POST", "POST", "GET", "GET"]


def test_a_purge_need_not_be_waited_for(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/purge", PREVIEW)
    server.answers("POST", "/v1/purge", a_purge(phase="runs", finished_at=None), status=202)
    result = penstock("purge", "--days", "30", "--yes", "--no-wait")

    assert "phase\truns" in result.stdout
    assert len(server.asked) == 2


def test_a_purge_wants_to_know_how_old(penstock: Penstock) -> None:
    assert penstock("purge").exit_code == 2
    assert penstock("purge", "--days", "0").exit_code == 2


def test_search_shows_what_was_found(server: CannedGateway, penstock: Penstock) -> None:
    hit = {"type": "run", "id": RUN_ID, "name": "#12 of orders", "description": "failed", "url": "http://x"}
    server.answers("GET", "/v1/search", {"items": [hit]})
    assert penstock("search", "a b", "--limit", "5").stdout == f"run\t#12 of orders\tfailed\t{RUN_ID}\n"
    assert server.asked[0].target == "/v1/search?q=a+b&limit=5"

    server.answers("GET", "/v1/search", {"items": []})
    assert penstock("search", "x").stdout.startswith("run")


def test_status_puts_dashboard_and_system_together(server: CannedGateway, penstock: Penstock) -> None:
    day = {"date": "2026-11-20", "success": 9, "failed": 1, "cancelled": 0, "running": 1, "queued": 2, "total": 13}
    dashboard = {
        "running": 1,
        "queued": 2,
        "oldest_queued_at": "2026-11-20T09:40:00Z",
        "runs_today": 13,
        "runs_yesterday": 0,
        "success_rate": 0.9,
        "rejected_today": 0,
        "last_failures": [
            {
                "id": RUN_ID,
                "number": 12,
                "pipeline_id": "orders",
                "created_at": "2026-11-20T09:40:00Z",
                "finished_at": "2026-11-20T09:40:01Z",
                "error": {"type": "ValueError", "message": "no"},
            }
        ],
        "trend": [day],
        "top_failing": [{"pipeline_id": "orders", "failed": 1}],
        "next_fires": [],
    }
    system = {
        "version": "0.1.0",
        "started_at": "2026-11-20T09:00:00Z",
        "database_bytes": 12_582_912,
        "tables": [],
        "pipelines": 3,
        "active_runs": 1,
        "queued_runs": 2,
        "oldest_queued_age_s": 62.0,
        "runners": [
            {
                "id": RUN_ID,
                "name": "here:1",
                "started_at": "2026-11-20T09:00:00Z",
                "heartbeat_age_s": 0.25,
                "is_alive": True,
                "active_runs": 1,
            }
        ],
        "doorbell": "up",
    }
    server.answers("GET", "/v1/dashboard", dashboard)
    server.answers("GET", "/v1/system", system)

    assert msgspec.json.decode(penstock("status", "--json").stdout) == {"dashboard": dashboard, "system": system}
    assert penstock("status", "--utc").stdout.splitlines() == [
        "running\t1",
        "queued\t2",
        "oldest waits\t1 m 02 s",
        "runs today\t13",
        "runs yesterday\t0",
        "success in 24 h\t90.0%",
        "rejected today\t0",
        "version\t0.1.0",
        "database\t12 MiB",
        "pipelines\t3",
        "doorbell\tup",
        "day\t2026-11-20\t9\t1\t0\t3",
        "failure\t12\torders\t2026-11-20 09:40:01 +00:00\tValueError: no",
        "failing\torders\t1",
        "runner\there:1\tactive\t1\t250 ms",
    ]


def test_runs_are_listed_by_text_origin_and_time(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/runs", {"items": [], "next_cursor": None})
    penstock("runs", "ls", "--q", "order 7", "--origin", "api", "--since", "2h", "--until", "2026-01-31T12:00:00+01:00")
    query = {name: values[0] for name, values in parse_qs(urlsplit(server.asked[0].target).query).items()}

    assert (query["q"], query["origin"], query["created_before"]) == ("order 7", "api", "2026-01-31T11:00:00+00:00")
    since = dt.datetime.fromisoformat(query["created_after"])
    assert dt.timedelta(hours=1.9) < dt.datetime.now(dt.UTC) - since < dt.timedelta(hours=2.1)


def test_pages_that_are_empty_on_the_way_are_passed_over(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/runs", {"items": [], "next_cursor": "more"})
    server.answers("GET", "/v1/runs", {"items": [], "next_cursor": None})

    assert penstock("runs", "ls", "--q", "rare").exit_code == 0
    assert [parse_qs(urlsplit(one.target).query).get("cursor") for one in server.asked] == [None, ["more"]]


@pytest.mark.parametrize("moment", ["yesterday", "2h ago", "-1h"])
def test_a_moment_that_is_none_is_refused(moment: str, penstock: Penstock) -> None:
    assert penstock("runs", "ls", f"--since={moment}").exit_code == 2
