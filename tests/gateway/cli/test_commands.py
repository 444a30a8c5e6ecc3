"""The client commands against canned answers: whole outputs, requests, exit codes."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.gateway.cli.canned_gateway import (
    KEY_ID,
    RUN_ID,
    SCHEDULE_ID,
    TOKEN_ID,
    CannedGateway,
    a_block,
    a_pipeline,
    a_run,
    a_schedule,
    sent,
)
from tests.gateway.cli.conftest import Penstock

BROKEN = a_pipeline(id="bad", version=None, graph=None, error='Traceback\nNameError: "x\x1b[2J"', is_paused=True)


def a_list(*items: Any) -> dict[str, Any]:
    return {"items": list(items), "next_cursor": None}


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_runs_are_listed_as_tab_separated_lines_for_programs(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/runs", a_list(a_run(), a_run(number=11, state="running", finished_at=None)))
    result = penstock("runs", "ls", "--utc")
    assert result.stdout == (
        f"12\torders\tsuccess\t2026-11-20 09:40:00 +00:00\t1.2 s\t{RUN_ID}\n"
        f"11\torders\trunning\t2026-11-20 09:40:00 +00:00\t\t{RUN_ID}\n"
    )
    assert (result.exit_code, result.stderr) == (0, "")


def test_runs_are_listed_as_a_table_for_people(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/runs", a_list(a_run(), a_run(number=7, pipeline_id="\x1b[2Jhello", state="failed")))
    result = penstock("runs", "ls", "--utc", "-o", "table")
    assert lines(result.stdout) == [
        " #  pipeline  state    created                     duration  id",
        f"12  orders    success  2026-11-20 09:40:00 +00:00     1.2 s  {RUN_ID}",
        f" 7  [2Jhello  failed   2026-11-20 09:40:00 +00:00     1.2 s  {RUN_ID}",
    ]


def test_json_is_what_the_api_sent(server: CannedGateway, penstock: Penstock) -> None:
    runs = [a_run(), a_run(number=11, event_variables={"deep": [1, {"x": "\x1b"}]})]
    server.answers("GET", "/v1/runs", a_list(*runs))
    as_json, as_lines = penstock("runs", "ls", "--json"), penstock("runs", "ls", "-o", "jsonl")
    assert as_json.stdout == msgspec.json.format(msgspec.json.encode(runs), indent=2).decode() + "\n"
    assert as_lines.stdout == "".join(msgspec.json.encode(run).decode() + "\n" for run in runs)


def test_filters_reach_the_api_under_the_names_of_the_fields(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/runs", a_list())
    result = penstock("runs", "ls", "--pipeline", "orders", "--state", "failed", "--schedule", "7", "--limit", "3")
    assert server.asked[0].target == "/v1/runs?pipeline_id=orders&state=failed&schedule_id=7&limit=3"
    assert (result.stdout, result.stderr) == ("", "No runs. Start one: penstock trigger PIPELINE\n")


def test_an_empty_list_is_empty_json(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/runs", a_list())
    assert penstock("runs", "ls", "--json").stdout == "[]\n"
    assert penstock("runs", "ls", "-o", "jsonl").stdout == ""


def test_a_run_is_shown_with_errors_blocks_and_variables(server: CannedGateway, penstock: Penstock) -> None:
    error = {
        "type": "ValueError",
        "message": "bad\x1b[31m row",
        "block_id": "load",
        "traceback": "Traceback:\n  line 1",
    }
    failed = a_block("load", state="failed", attempt=2, error={**error, "block_id": None})
    server.answers("GET", f"/v1/runs/{RUN_ID}", a_run(state="failed", error=error, block_runs=[failed]))
    result = penstock("runs", "show", RUN_ID, "--utc", "-o", "table")
    assert lines(result.stdout) == [
        "run       #12",
        f"id        {RUN_ID}",
        "pipeline  orders",
        "state     failed",
        f"schedule  {SCHEDULE_ID}",
        "origin    event",
        "created   2026-11-20 09:40:00 +00:00",
        "waited    250 ms",
        "started   2026-11-20 09:40:00 +00:00",
        "finished  2026-11-20 09:40:01 +00:00",
        "duration  1.2 s",
        "",
        "error",
        "  ValueError in block load: bad[31m row",
        "  Traceback:",
        "    line 1",
        "",
        "block  state   attempt  duration  rows  error",
        "load   failed        2    340 ms        ValueError: bad[31m row",
        "",
        "variables",
        "  {",
        '    "region": "eu"',
        "  }",
        "",
        "event_variables",
        "  {",
        '    "ref": "refs/heads/main"',
        "  }",
    ]


def test_what_does_not_exist_exits_3_and_says_so(penstock: Penstock) -> None:
    result = penstock("runs", "show", "12")
    assert result.exit_code == 3
    assert (result.stdout, result.stderr) == ("", "penstock: There is no /v1/runs/12.\n")


@pytest.mark.parametrize(("status", "code"), [(401, 4), (403, 4), (409, 5), (422, 5), (503, 6), (500, 1)])
def test_problems_have_their_exit_codes(server: CannedGateway, penstock: Penstock, status: int, code: int) -> None:
    server.refuses("GET", "/v1/runs", status, detail="No.")
    assert penstock("runs", "ls").exit_code == code


def test_pipelines_are_listed_with_the_errors_of_broken_files(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/pipelines", a_list(a_pipeline(), a_pipeline(id="off", is_paused=True), BROKEN))
    updated = "2026-11-20 09:30:00 +00:00"
    assert penstock("pipelines", "ls", "--utc").stdout == (
        f"orders\tactive\t0123456789ab\t4\t{updated}\t\n"
        f"off\tpaused\t0123456789ab\t4\t{updated}\t\n"
        f'bad\tbroken\t\t\t{updated}\tNameError: "x[2J"\n'
    )


def test_a_pipelines_blocks_are_drawn_below_what_they_wait_for(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/pipelines/orders", a_pipeline())
    result = penstock("pipelines", "show", "orders", "--utc", "-o", "table")
    assert lines(result.stdout) == [
        "pipeline         orders",
        "state            active",
        f"version          {'0123456789abcdef' * 4}",
        "file             orders.py",
        "on paused        queue",
        "max active runs  4",
        "updated          2026-11-20 09:30:00 +00:00",
        "",
        "description",
        "  Orders of the day.",
        "",
        "params",
        "  {",
        '    "type": "object"',
        "  }",
        "",
        "blocks",
        "  load (3 retries; timeout 1 m 00 s): Fetch the orders.",
        "  ├─ enrich",
        "  └─ transform (1 retry)",
        "     └─ publish (after enrich, transform)",
    ]


def test_what_a_block_waits_for_and_who_is_called_back_is_told(server: CannedGateway, penstock: Penstock) -> None:
    blocks = [
        {"id": "load"},
        {"id": "each", "upstream": ["load"], "map": "load", "queue": "gpu"},
        {"id": "tidy", "upstream": ["each"], "after": ["each"], "trigger_rule": "all_done", "retries": 1},
    ]
    callbacks = [{"id": "alert", "on": "failure"}, {"id": "note", "on": "success", "block": "load", "timeout": 60}]
    server.answers("GET", "/v1/pipelines/orders", a_pipeline(graph={"blocks": blocks, "callbacks": callbacks}))

    result = penstock("pipelines", "show", "orders", "-o", "table")

    assert lines(result.stdout)[-8:] == [
        "blocks",
        "  load",
        "  └─ each (for each item of load; queue gpu)",
        "     └─ tidy (all done; 1 retry)",
        "",
        "callbacks",
        "  alert (failure of the run)",
        "  note (success of load; timeout 1 m 00 s)",
    ]


def test_a_pipeline_is_paused_by_one_field(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("PATCH", "/v1/pipelines/orders", a_pipeline(is_paused=True))
    result = penstock("pipelines", "pause", "orders")
    assert (result.exit_code, sent(server)) == (0, {"is_paused": True})
    assert "state\tpaused\n" in result.stdout


def test_a_schedule_is_created_with_its_secret_from_standard_input(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/schedules", a_schedule(), status=201)
    options = ["--pipeline", "orders", "--name", "pushes", "--source", "github", "--secret-stdin"]
    more = ["--variables", '{"region": "eu"}', "--body-limit", "1000", "--on-paused", "reject"]
    result = penstock("schedules", "create", *options, *more, stdin="s3cret\n")
    assert sent(server) == {
        "pipeline_id": "orders",
        "name": "pushes",
        "kind": "api",
        "source": "github",
        "source_config": {"secrets": ["s3cret"]},
        "variables": {"region": "eu"},
        "body_limit": 1000,
        "on_paused": "reject",
    }
    assert (result.exit_code, result.stderr) == (0, "Next: penstock tokens create 7\n")
    assert "secrets\t1 set\n" in result.stdout


def test_schedules_are_listed_and_can_be_unpaused_and_deleted(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/schedules", a_list(a_schedule(is_paused=True)))
    server.answers("PATCH", "/v1/schedules/7", a_schedule())
    server.answers("DELETE", "/v1/schedules/7", status=204)
    assert penstock("schedules", "ls", "--utc").stdout == (
        f"7\tpushes\torders\tapi\tgithub\tpaused\t\t2026-11-20 09:00:00 +00:00\t{SCHEDULE_ID}\n"
    )
    assert penstock("schedules", "unpause", "7").exit_code == 0
    assert sent(server) == {"is_paused": False}
    assert penstock("schedules", "rm", "7").stderr == "Schedule 7 is deleted.\n"
    assert (server.asked[-1].method, server.asked[-1].target) == ("DELETE", "/v1/schedules/7")


def test_a_token_is_shown_once_with_its_url(server: CannedGateway, penstock: Penstock) -> None:
    url = "http://127.0.0.1:8787/hooks/7/pst_secret"
    token = {"id": TOKEN_ID, "token": "pst_secret", "url": url, "label": "ci", "expires_at": None}
    server.answers("POST", "/v1/schedules/7/tokens", token, status=201)
    server.answers("POST", f"/v1/tokens/{TOKEN_ID}/rotate", token, status=201)
    result = penstock("tokens", "create", "7", "--label", "ci", "--expires", "30d", "-o", "table")
    assert lines(result.stdout) == [f"id     {TOKEN_ID}", "label  ci", "token  pst_secret", f"url    {url}"]
    assert "not shown again" in result.stderr
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*\+00:00", sent(server).pop("expires_at"))
    rotated = penstock("tokens", "rotate", TOKEN_ID, "--grace", "1h", "--json")
    assert sent(server) == {"grace_s": 3600}
    assert msgspec.json.decode(rotated.stdout) == token


def test_tokens_are_listed_by_hint_and_state(server: CannedGateway, penstock: Penstock) -> None:
    at = "2026-11-20T09:00:00Z"
    token = {"id": TOKEN_ID, "schedule_id": SCHEDULE_ID, "hint": "pst_…abcd", "label": "ci", "created_at": at}
    times = [(None, None), ("2020-01-01T00:00:00Z", None), (None, at)]
    shown = [
        {**token, "expires_at": expires, "revoked_at": revoked, "last_used_at": None} for expires, revoked in times
    ]
    server.answers("GET", "/v1/schedules/7/tokens", a_list(*shown))
    rows = [line.split("\t") for line in penstock("tokens", "ls", "7").stdout.splitlines()]
    assert [row[:4] for row in rows] == [[TOKEN_ID, "ci", "pst_…abcd", s] for s in ("active", "expired", "revoked")]


def test_a_token_itself_is_refused_where_its_id_belongs(server: CannedGateway, penstock: Penstock) -> None:
    result = penstock("tokens", "revoke", "pst_secret")
    assert (result.exit_code, server.asked) == (2, [])
    assert "pst_secret" not in result.output


def test_keys_are_made_listed_and_revoked(server: CannedGateway, penstock: Penstock) -> None:
    key = {"id": KEY_ID, "name": "ci", "role": "viewer"}
    times = {"created_at": "2026-11-20T09:00:00Z", "last_used_at": None, "revoked_at": None}
    server.answers("POST", "/v1/keys", {**key, "key": "psk_new"}, status=201)
    server.answers("GET", "/v1/keys", a_list({**key, "hint": "psk_…wxyz", **times}))
    server.answers("DELETE", f"/v1/keys/{KEY_ID}", status=204)
    created = penstock("keys", "create", "--name", "ci", "--role", "viewer")
    assert created.stdout == f"id\t{KEY_ID}\nname\tci\nrole\tviewer\nkey\tpsk_new\n"
    assert sent(server) == {"name": "ci", "role": "viewer"}
    listed = f"{KEY_ID}\tci\tviewer\tpsk_…wxyz\tactive\t2026-11-20 09:00:00 +00:00\t\n"
    assert penstock("keys", "ls", "--utc").stdout == listed
    assert penstock("keys", "revoke", KEY_ID).stderr == f"Key {KEY_ID} is revoked.\n"


def test_variables_come_from_text_file_stdin_and_single_params(
    server: CannedGateway, penstock: Penstock, tmp_path: Path
) -> None:
    server.answers("POST", "/v1/pipelines/orders/runs", a_run(state="queued"), status=202)
    (tmp_path / "data.json").write_text('{"a": 2}')

    def variables(*options: str, stdin: str | None = None) -> Any:
        assert penstock("trigger", "orders", *options, stdin=stdin).exit_code == 0
        return sent(server)["variables"]

    assert variables() == {}
    assert variables("-d", '{"a":1}') == {"a": 1}
    assert variables("-d", "@data.json") == {"a": 2}
    assert variables("-d", "-", stdin='{"a": 3}') == {"a": 3}
    params = ["-p", "a=4", "-p", "b=text", "-p", "c=[true]", "-p", "d=x=y", "-p", 'e="5"', "-p", "f="]
    assert variables("-d", '{"a":1,"z":null}', *params) == {
        "a": 4,
        "z": None,
        "b": "text",
        "c": [True],
        "d": "x=y",
        "e": "5",
        "f": "",
    }


def test_a_trigger_prints_the_run_and_how_to_watch_it(server: CannedGateway, penstock: Penstock) -> None:
    run = a_run(state="queued", started_at=None, finished_at=None, block_runs=[])
    server.answers("POST", "/v1/pipelines/orders/runs", run, status=202)
    options = ["--run-key", "k", "--note", "why", "--logical-date", "2026-11-20T10:00:00+01:00"]
    result = penstock("trigger", "orders", *options, "--json")
    body = sent(server)
    assert (body["run_key"], body["note"], body["logical_date"][:11]) == ("k", "why", "2026-11-20T")
    assert msgspec.json.decode(result.stdout) == run
    assert result.stderr == f"Watch it: penstock runs watch {RUN_ID}\n"


@pytest.mark.parametrize(
    "options",
    [["-d", "[1]"], ["-d", "{"], ["-d", "@none"], ["-p", "novalue"], ["--timeout", "3"], ["--logical-date", "x"]],
)
def test_wrong_usage_exits_2_and_sends_nothing(server: CannedGateway, penstock: Penstock, options: list[str]) -> None:
    assert penstock("trigger", "orders", *options).exit_code == 2
    assert server.asked == []
