"""`penstock import mage`: what becomes of each trigger in a triggers.yaml, and that no token of it is shown."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.gateway.cli.canned_gateway import SCHEDULE_ID, TOKEN_ID, CannedGateway, a_schedule
from tests.gateway.cli.conftest import Penstock

TOKEN = "260385a38d62466fb1c88fa8c5ca503f"
TRIGGERS = f"""
triggers:
- name: pushes
  pipeline_uuid: orders
  schedule_type: api
  status: active
  token: {TOKEN}
  variables: {{region: eu}}
  settings: null
  envs: []
- name: late forest
  pipeline_uuid: orders
  schedule_type: time
  schedule_interval: '@daily'
  start_time: 2023-02-16 04:00:00
  status: inactive
  sla: 3600
  settings: {{skip_if_previous_running: true, pipeline_run_limit: 2, timeout: 60, allow_blocks_to_fail: true}}
- name: once
  pipeline_uuid: orders
  schedule_type: time
  schedule_interval: '@once'
- name: bucket
  pipeline_uuid: orders
  schedule_type: event
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "triggers.yaml"
    path.write_text(TRIGGERS)
    return path


def has_pipeline(server: CannedGateway, *schedules: dict[str, Any]) -> None:
    server.answers("GET", "/v1/pipelines/orders", {"id": "orders"})
    server.answers("GET", "/v1/schedules", {"items": list(schedules), "next_cursor": None})
    server.answers("POST", f"/v1/schedules/{SCHEDULE_ID}/tokens/imported", {"id": TOKEN_ID}, status=201)


def bodies(server: CannedGateway, path: str) -> list[Any]:
    return [msgspec.json.decode(asked.body) for asked in server.asked if (asked.method, asked.target) == ("POST", path)]


def test_triggers_become_schedules_and_what_cannot_is_said(
    server: CannedGateway, penstock: Penstock, file: Path
) -> None:
    has_pipeline(server)
    server.answers("POST", "/v1/schedules", a_schedule(), status=201)

    result = penstock("import", "mage", str(file))

    assert result.exit_code == 1, result.output
    assert bodies(server, "/v1/schedules") == [
        {
            "name": "pushes",
            "pipeline_id": "orders",
            "kind": "api",
            "is_paused": False,
            "variables": {"region": "eu"},
        },
        {
            "name": "late forest",
            "pipeline_id": "orders",
            "kind": "time",
            "is_paused": True,
            "cron": "@daily",
            "start_at": "2023-02-16T04:00:00Z",
            "sla_s": 3600,
            "overlap": "skip",
            "max_active_runs": 2,
            "run_timeout_s": 60,
        },
    ]
    assert bodies(server, f"/v1/schedules/{SCHEDULE_ID}/tokens/imported") == [
        {"sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "hint": TOKEN[-4:], "label": "mage"}
    ]
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [(row[1], row[4], row[5]) for row in rows] == [
        ("pushes", "made", "imported"),
        ("late forest", "made", "none"),
        ("once", "left out", "none"),
        ("bucket", "left out", "none"),
    ]
    assert [row[6].partition(":")[0] for row in rows] == [
        "",
        "settings.allow_blocks_to_fail",
        "schedule_interval",
        "schedule_type",
    ]


def test_a_dry_run_changes_nothing(server: CannedGateway, penstock: Penstock, file: Path) -> None:
    has_pipeline(server)

    result = penstock("import", "mage", str(file), "--dry-run", "--json")

    assert {asked.method for asked in server.asked} == {"GET"}
    found = msgspec.json.decode(result.stdout)
    assert found[0] == {
        "name": "pushes",
        "pipeline_id": "orders",
        "kind": "api",
        "schedule": "would be made",
        "number": None,
        "token": "would be imported",
        "notes": [],
    }
    assert [each["schedule"] for each in found[1:]] == ["would be made", "left out", "left out"]


def test_what_is_there_already_is_left_and_gets_its_token(
    server: CannedGateway, penstock: Penstock, file: Path
) -> None:
    file.write_text(TRIGGERS.partition("- name: late")[0])
    has_pipeline(server, a_schedule(name="other"), a_schedule())

    result = penstock("import", "mage", str(file))

    assert result.exit_code == 0, result.output
    assert result.stdout.split("\t")[4:6] == ["is there", "imported"]
    assert bodies(server, "/v1/schedules") == []
    assert len(bodies(server, f"/v1/schedules/{SCHEDULE_ID}/tokens/imported")) == 1


def test_an_unknown_pipeline_and_a_token_that_is_taken_are_said(
    server: CannedGateway, penstock: Penstock, file: Path
) -> None:
    file.write_text(TRIGGERS.partition("- name: late")[0])
    server.refuses("GET", "/v1/pipelines/orders", 404, detail="There is no pipeline 'orders'.")
    unknown = penstock("import", "mage", str(file))
    server.answers("GET", "/v1/pipelines/mine", {"id": "mine"})
    server.answers("GET", "/v1/schedules", {"items": [a_schedule()], "next_cursor": None})
    server.refuses("POST", f"/v1/schedules/{SCHEDULE_ID}/tokens/imported", 409, detail="It is taken.")
    taken = penstock("import", "mage", str(file), "--pipeline", "mine")

    assert (unknown.exit_code, unknown.stdout.split("\t")[4]) == (1, "left out")
    assert "There is no pipeline 'orders'." in unknown.stdout
    assert taken.stdout.split("\t")[4:6] == ["is there", "none"]
    assert "It is taken." in taken.stdout


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (f"triggers:\n- token: {TOKEN}\n  [", 5, "is not YAML in line 3"),
        (f"triggers: {TOKEN}", 5, "no list of `triggers`"),
        (f"triggers:\n- {TOKEN}", 5, "no list of `triggers`"),
        ("!!python/object/apply:os.system [true]", 5, "is not YAML"),
        ("", 5, "no list of `triggers`"),
        ("triggers: []", 0, "has no triggers"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_without_its_words(
    text: str, code: int, words: str, penstock: Penstock, file: Path
) -> None:
    file.write_text(text)

    result = penstock("import", "mage", str(file))

    assert (result.exit_code, words in result.output) == (code, True), result.output
    assert TOKEN not in result.output


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ("schedule_interval: [1]", "schedule_interval: it is not a text"),
        ("start_time: 5", "start_time: it is not a time such as 2026-01-31 12:00:00"),
        ("start_time: 2026-01-31", "start_time: it is not a time such as 2026-01-31 12:00:00"),
        ("schedule_interval: '@always_on'", "schedule_interval: @always_on keeps a run going for ever"),
        ("settings: [1]", "settings: they are not an object"),
        ("settings: {landing_time_enabled: true}", "settings.landing_time_enabled: there is nothing like it here"),
        ("description: x", "description is not kept"),
    ],
)
def test_what_is_otherwise_than_in_mage_is_said(
    fields: str, note: str, server: CannedGateway, penstock: Penstock, file: Path
) -> None:
    file.write_text(f"triggers: [{{name: odd, pipeline_uuid: orders, schedule_type: time, {fields}}}]")
    has_pipeline(server)

    assert note in penstock("import", "mage", str(file), "--dry-run").stdout


@pytest.mark.parametrize("form", [[], ["--json"], ["-o", "table"]])
def test_tokens_are_not_printed(form: list[str], server: CannedGateway, penstock: Penstock, file: Path) -> None:
    file.write_text(TRIGGERS.replace(TOKEN, TOKEN.upper()))
    has_pipeline(server, a_schedule())

    result = penstock("import", "mage", str(file), *form)

    assert TOKEN.upper() not in result.output
    assert "32 hexadecimal digits" in " ".join(result.output.split())
    assert all(TOKEN.upper().encode() not in asked.body for asked in server.asked)


DAGS = {
    "dags": [
        {
            "dag_id": "orders",
            "is_paused": False,
            "schedule_interval": {"__type": "CronExpression", "value": "0 2 * * *"},
        },
        {"dag_id": "orders", "is_paused": True, "schedule_interval": {"__type": "TimeDelta", "days": 1, "seconds": 60}},
        {"dag_id": "orders", "timetable_summary": "@daily", "timetable_description": "At 00:00 UTC"},
        {"dag_id": "orders", "timetable_summary": "None"},
        {"dag_id": "orders", "schedule_interval": {"__type": "RelativeDelta"}},
        {"dag_id": "orders", "timetable_summary": "Dataset"},
    ]
}


def test_dags_with_a_clock_become_schedules_and_of_the_others_it_is_said_why_not(
    server: CannedGateway, penstock: Penstock, tmp_path: Path
) -> None:
    has_pipeline(server)
    server.answers("POST", "/v1/schedules", a_schedule(), status=201)
    listed = tmp_path / "dags.json"
    listed.write_bytes(msgspec.json.encode(DAGS))

    result = penstock("import", "airflow", str(listed))

    assert result.exit_code == 1, result.output
    of_all = {"name": "orders", "pipeline_id": "orders", "kind": "time"}
    assert bodies(server, "/v1/schedules") == [
        of_all | {"is_paused": False, "cron": "0 2 * * *"},
        of_all | {"is_paused": True, "every_s": 86_460},
        of_all | {"is_paused": True, "cron": "@daily"},
    ]
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [(row[4], row[6]) for row in rows] == [
        ("made", "timezone: the list does not say it; it is taken for UTC"),
        ("made", ""),
        ("made", ""),
        ("left out", "it has no clock: calls of the API start the pipeline as they did"),
        ("left out", "its schedule is a RelativeDelta, which has nothing like it here"),
        ("left out", "its timetable 'Dataset' is neither a cron nor an interval"),
    ]


@pytest.mark.parametrize("text", ["{", "[1]", "7", '{"dags": [{}]}', '{"dags": 1}', "\udcff"])
def test_what_is_no_list_of_dags_is_said(penstock: Penstock, tmp_path: Path, text: str) -> None:
    listed = tmp_path / "dags.json"
    listed.write_bytes(text.encode(errors="surrogateescape"))

    result = penstock("import", "airflow", str(listed))

    assert result.exit_code == 5
    assert str(listed) in result.stderr
