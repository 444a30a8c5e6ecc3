"""The commands with which people steer runs and pipelines, against canned answers."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.gateway.cli.canned_gateway import KEY_ID, RUN_ID, CannedGateway, a_pipeline, a_run
from tests.gateway.cli.conftest import Penstock


def sent(server: CannedGateway) -> tuple[str, str, Any]:
    asked = server.asked[-1]
    return asked.method, asked.target, msgspec.json.decode(asked.body) if asked.body else None


def test_a_run_is_resumed_with_a_note(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/runs/12/resume", a_run(number=13, state="queued"), status=202)

    result = penstock("runs", "resume", "12", "--note", "mended")

    assert sent(server) == ("POST", "/v1/runs/12/resume", {"note": "mended"})
    assert (result.exit_code, "#13" in result.stdout) == (0, True)
    assert result.stderr == f"Watch it: penstock runs watch {RUN_ID}\n"


def test_a_resumed_run_can_be_waited_for(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/runs/12/resume", a_run(state="queued"), status=202)
    server.streams(f"/v1/runs/{RUN_ID}/stream", "event: end\ndata: {}\n\n")
    server.answers("GET", f"/v1/runs/{RUN_ID}", a_run(state="failed"))

    assert penstock("runs", "resume", "12", "--wait", "--json").exit_code == 7


def test_a_run_is_run_again_as_it_was(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/runs/12/rerun", a_run(), status=202)

    assert penstock("runs", "rerun", "12").exit_code == 0

    assert sent(server) == ("POST", "/v1/runs/12/rerun", {})


def test_a_run_is_run_again_with_one_variable_changed(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/runs/12", a_run(variables={"region": "us", "big": 12345678901234567890}))
    server.answers("POST", "/v1/runs/12/rerun", a_run(), status=202)

    assert penstock("runs", "rerun", "12", "-p", "region=eu").exit_code == 0

    assert sent(server)[2] == {"variables": {"region": "eu", "big": 12345678901234567890}}


def test_a_run_is_run_again_with_all_variables_anew(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/runs/12/rerun", a_run(), status=202)

    assert penstock("runs", "rerun", "12", "-d", '{"a": 1}', "-p", "b=2", "--note", "x").exit_code == 0

    assert sent(server)[2] == {"variables": {"a": 1, "b": 2}, "note": "x"}


def test_a_run_is_marked(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/runs/12/mark", a_run(state="success"))

    assert penstock("runs", "mark", "12", "success", "--note", "by hand").exit_code == 0

    assert sent(server) == ("POST", "/v1/runs/12/mark", {"state": "success", "note": "by hand"})
    assert penstock("runs", "mark", "12", "cancelled").exit_code == 2


def test_a_run_may_be_triggered_with_a_callback(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/pipelines/orders/runs", a_run(), status=202)

    assert penstock("trigger", "orders", "--callback-url", "https://example.com/done").exit_code == 0

    assert sent(server)[2] == {"variables": {}, "callback_url": "https://example.com/done"}


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (["--on-paused", "reject"], {"on_paused": "reject"}),
        (["--max-active-runs", "4"], {"max_active_runs": 4}),
        (["--no-limit", "--notify", '{"email": []}'], {"max_active_runs": None, "notify": {"email": []}}),
    ],
)
def test_a_pipeline_is_set(options: list[str], body: Any, server: CannedGateway, penstock: Penstock) -> None:
    server.answers("PATCH", "/v1/pipelines/orders", a_pipeline())

    assert penstock("pipelines", "set", "orders", *options).exit_code == 0

    assert sent(server) == ("PATCH", "/v1/pipelines/orders", body)


@pytest.mark.parametrize("options", [[], ["--no-limit", "--max-active-runs", "1"]])
def test_a_pipeline_is_set_to_something_and_to_one_thing(options: list[str], penstock: Penstock) -> None:
    assert penstock("pipelines", "set", "orders", *options).exit_code == 2


def test_a_log_is_saved_as_a_file(server: CannedGateway, penstock: Penstock, tmp_path: Path) -> None:
    text = "2026-01-02T15:04:05.123Z [info] [load] loading\n" * 3000
    server.answers("GET", "/v1/runs/12/logs/export", text.encode())

    result = penstock("runs", "logs", "12", "--export", "log.txt", "--level", "warning", "--since", "15m")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Saved as log.txt.\n")
    assert (tmp_path / "log.txt").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]
    target = server.asked[-1].target
    assert "level=warning" in target
    assert "created_after=20" in target


def test_a_log_that_cannot_be_had_or_saved_says_so(server: CannedGateway, penstock: Penstock, tmp_path: Path) -> None:
    server.answers("GET", "/v1/runs/12/logs/export", b"x")

    assert penstock("runs", "logs", "13", "--export", "log.txt").exit_code == 3
    assert not (tmp_path / "log.txt").exists()
    nowhere = penstock("runs", "logs", "12", "--export", "no/such/folder.txt")
    assert (nowhere.exit_code, nowhere.stderr) == (
        1,
        "penstock: no/such/folder.txt cannot be written: No such file or directory.\n",
    )
    assert penstock("runs", "logs", "12", "--export", "log.txt", "--follow").exit_code == 2


def test_what_people_did_is_listed(server: CannedGateway, penstock: Penstock) -> None:
    entry = {
        "id": KEY_ID,
        "at": "2026-11-20T09:40:00Z",
        "key_id": KEY_ID,
        "caller": "night\x1b[2J shift",
        "role": "operator",
        "action": "run.mark",
        "subject": "run:12",
        "details": {"to": "success", "note": "by hand"},
    }
    server.answers("GET", "/v1/audit", {"items": [entry], "next_cursor": None})

    result = penstock("audit", "--action", "run.mark", "--since", "24h", "--utc")

    assert result.stdout == (
        '2026-11-20 09:40:00 +00:00\tnight[2J shift\toperator\trun.mark\trun:12\tto=success note="by hand"\n'
    )
    assert "action=run.mark" in server.asked[-1].target
    assert "created_after=20" in server.asked[-1].target
