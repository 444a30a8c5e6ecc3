"""The log of a run: filtered, exported as a file that cannot steer a terminal, bounded."""

import datetime as dt
import re
import uuid

import pytest

from gateway.logs import as_text
from runner.attempts import MOST_LOG_LINES
from schemas.runs import LogLine
from schemas.states import LogLevel
from tests.faults import Connection, trigger
from tests.problems import problem
from tests.system import Json, Penstock

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[(debug|info|warning|error)\] \[talks\] ")


async def lines_of(shared: Penstock, run_id: str, **query: object) -> list[Json]:
    answer = await shared.client.get(f"/v1/runs/{run_id}/logs", params={"limit": 200} | query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def exported(shared: Penstock, run_id: str, **query: object) -> list[str]:
    answer = await shared.client.get(f"/v1/runs/{run_id}/logs/export", params=query)
    assert answer.status_code == 200, answer.text
    return answer.text.splitlines()


async def test_a_log_is_filtered_by_time_and_item(shared: Penstock, shared_connection: Connection) -> None:
    run_id = await trigger(shared, "chatty", lines=5, every_s=0.02)
    await shared.ended(run_id)
    lines = await lines_of(shared, run_id)
    assert len(lines) == 5

    third = lines[2]["at"]
    assert await lines_of(shared, run_id, created_before=third) == lines[:2]
    assert await lines_of(shared, run_id, created_after=third) == lines[2:]
    assert await lines_of(shared, run_id, created_after=third, created_before=lines[4]["at"]) == lines[2:4]
    assert [line[-1] for line in await exported(shared, run_id, created_after=third)] == ["2", "3", "4"]

    assert await lines_of(shared, run_id, map_index=3) == []
    await shared_connection.execute(
        "UPDATE logs SET map_index = 3 WHERE run_id = $1 AND seq = $2", uuid.UUID(run_id), lines[0]["seq"]
    )
    assert await lines_of(shared, run_id, map_index=3) == [lines[0] | {"map_index": 3}]
    (only,) = await exported(shared, run_id, map_index=3)
    assert only.endswith("Z [info] [talks[3]] line 0")
    problem(await shared.client.get(f"/v1/runs/{run_id}/logs/export", params={"map_index": "x"}), 422, "invalid")


async def test_a_log_of_ten_thousand_lines_is_bounded_and_exported_whole(shared: Penstock) -> None:
    run_id = await trigger(shared, "chatty", lines=MOST_LOG_LINES + 500)
    run = await shared.ended(run_id, timeout=60)

    answer = await shared.client.get(f"/v1/runs/{run['number']}/logs/export")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="run-{run["number"]}-log.txt"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    *kept, last = answer.text.splitlines()
    assert [line.partition("] line ")[2] for line in kept] == [str(number) for number in range(MOST_LOG_LINES)]
    assert all(LINE.match(line) for line in (kept[0], kept[-1], last))
    assert last.endswith("[warning] [talks] log truncated: a run keeps 10000 lines or 8 MiB")
    assert await exported(shared, run_id, level="warning") == [last]


async def test_a_run_without_a_log_gives_an_empty_file(shared: Penstock) -> None:
    run_id = await trigger(shared, "quick")
    await shared.ended(run_id)

    assert await exported(shared, run_id) == []
    unknown = await shared.client.get(f"/v1/runs/{uuid.uuid4()}/logs/export")
    problem(unknown, 404, "not_found")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("two\nlines\r\n", "two\\nlines\\r\\n"),
        ("\x1b[31mred\x1b[0m \x9b2J \x07", "\\x1b[31mred\\x1b[0m \\x9b2J \\x07"),
        ("\x1b]0;title\x07\x00\x7f", "\\x1b]0;title\\x07\\x00\\x7f"),
        ("evil\u202etxt.exe \u2028 \u2066", "evil\\u202etxt.exe \\u2028 \\u2066"),
        ("tab\there C:\\new ü 🎈 日本", "tab\\there C:\\new ü 🎈 日本"),
    ],
)
def test_an_exported_line_is_one_line_that_steers_no_terminal(message: str, shown: str) -> None:
    line = LogLine(
        seq=1,
        at=dt.datetime(2026, 1, 2, 16, 4, 5, 123456, dt.timezone(dt.timedelta(hours=1))),
        run_id=uuid.uuid4(),
        block_id="load",
        attempt=1,
        level=LogLevel.INFO,
        message=message,
        fields=b'{"region":"\x9b"}'.decode("latin-1").encode(),
    )

    assert as_text(line) == f'2026-01-02T15:04:05.123Z [info] [load] {shown} {{"region":"\\x9b"}}\n'
