"""Following a run: the live picture, plain lines, logs, and how waiting ends."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from gateway.cli.client import Client
from gateway.cli.live import BlockChange, Progress, watch
from gateway.cli.runs import read
from schemas.runs import Run
from schemas.states import RunState
from tests.gateway.cli.canned_gateway import (
    RUN_ID,
    CannedGateway,
    a_block,
    a_log_line,
    a_pipeline,
    a_run,
    sse,
)
from tests.gateway.cli.conftest import Penstock

RUN, STREAM, LOGS = f"/v1/runs/{RUN_ID}", f"/v1/runs/{RUN_ID}/stream", f"/v1/runs/{RUN_ID}/logs"
BEGUN = a_run(state="running", finished_at=None, block_runs=[])
BOOM = {"type": "ValueError", "message": "boom\x1b[2J", "block_id": "transform"}
FAILED = a_run(
    state="failed", error=BOOM, block_runs=[a_block("load"), a_block("transform", state="failed", error=BOOM)]
)


def stream_of_a_run(server: CannedGateway, *, final: dict[str, Any]) -> None:
    server.answers("GET", RUN, BEGUN)
    server.answers("GET", RUN, final)
    server.answers("GET", "/v1/pipelines/orders", a_pipeline())
    pieces = [
        sse("run", 1, state="running", attempt=1),
        sse("block", 2, block_id="load", state="running", attempt=1),
        ": ping\n\n",
        sse("log", 3, attempt=0, level="info", message="about the run"),
        sse("log", 3, block_id="load", attempt=1, level="info", message="\x1b[2Jloading", fields={"region": "eu"}),
        sse("block", 4, block_id="load", state="success", attempt=1, duration_ms=340, row_count=2),
        sse("block", 5, block_id="transform", state="running", attempt=2),
        sse("block", 6, block_id="transform", state=final["state"], attempt=2, duration_ms=20, error=final["error"]),
        sse("run", 7, state=final["state"], error=final["error"]),
        sse("end", None, state=final["state"]),
    ]
    server.streams(STREAM, *pieces)


def terminal(**options: Any) -> Console:
    return Console(file=io.StringIO(), width=100, color_system=None, highlight=False, **options)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_watched_run_is_plain_lines_when_piped(server: CannedGateway) -> None:
    stream_of_a_run(server, final=a_run())
    console = terminal()
    assert watch(Client(server.url, ""), {"id": RUN_ID}, console=console, utc=True) is RunState.SUCCESS
    assert shown(console).splitlines() == [
        f"run #12 of orders, {RUN_ID}, created 2026-11-20 09:40:00 +00:00",
        "09:40:00.500 run #12: running",
        "09:40:00.500 load: running",
        "09:40:00.500 run | about the run",
        "09:40:00.500 load | [2Jloading region=eu",
        "09:40:00.500 load: success after 340 ms, 2 rows",
        "09:40:00.500 transform: running (attempt 2)",
        "09:40:00.500 transform: success (attempt 2) after 20 ms",
        "09:40:00.500 run #12: success after 250 ms",
    ]


def test_a_failed_run_ends_with_its_reason_and_where_to_look(server: CannedGateway) -> None:
    stream_of_a_run(server, final=FAILED)
    console = terminal()
    assert watch(Client(server.url, ""), {"id": RUN_ID}, console=console) is RunState.FAILED
    assert shown(console).splitlines()[-2:] == [
        "ValueError in block transform: boom[2J",
        f"Read on: penstock runs logs {RUN_ID}",
    ]


def test_a_live_run_ends_as_a_picture_of_its_blocks(server: CannedGateway) -> None:
    stream_of_a_run(server, final=FAILED)
    console = terminal(force_terminal=True, force_interactive=True)
    assert watch(Client(server.url, ""), {"id": RUN_ID}, console=console) is RunState.FAILED
    last_frame = shown(console)[shown(console).rindex("✘ orders") :]
    assert "\x1b[2J" not in last_frame
    assert [line.rstrip() for line in last_frame.replace("\x1b[?25h", "").splitlines()[:5]] == [
        "✘ orders  run #12  failed  1.2 s",
        "✔  load       success  340 ms    [2Jloading region=eu",
        "○  enrich     pending",
        "✘  transform  failed   340 ms    ValueError: boom[2J",
        "○  publish    pending",
    ]


def test_a_picture_of_a_successful_run_shows_only_blocks_that_it_had() -> None:
    progress = Progress(read(msgspec.json.encode(BEGUN), Run), ("load", "renamed_since", "transform"))
    progress.refresh(read(msgspec.json.encode(a_run()), Run))
    console = terminal()
    console.print(progress)
    assert [line.rstrip() for line in shown(console).splitlines()] == [
        "✔ orders  run #12  success  1.2 s",
        "✔  load       success    340 ms  2 rows",
        "✔  transform  success  1 m 05 s",
    ]


def mapped(**changes: Any) -> dict[str, Any]:
    """Make a run with a mapped block of three items, one of which failed."""
    boom = {"type": "ValueError", "message": "item 1: boom", "block_id": "load"}
    items = [a_block("load", map_index=index, row_count=None) for index in (2, 0)]
    items.append(a_block("load", map_index=1, state="failed", attempt=2, error=boom | {"message": "boom"}))
    block = a_block("load", map_index=None, row_count=3, state="failed", error=boom)
    return a_run(state="failed", error=boom, block_runs=[*items, block], **changes)


def test_a_picture_of_a_mapped_block_is_one_line_that_counts_its_items() -> None:
    progress = Progress(read(msgspec.json.encode(BEGUN), Run), ("load",))
    at = "2026-11-20T09:40:00.5Z"
    for change in (
        {"state": "running", "row_count": 3},
        *({"state": "running", "map_index": index} for index in range(2)),
        {"state": "success", "map_index": 1},
    ):
        progress.change_block(msgspec.convert({"block_id": "load", "at": at, **change}, BlockChange))
    console = terminal()
    console.print(progress)
    assert "1 of 3 items" in shown(console).splitlines()[1]

    progress.refresh(read(msgspec.json.encode(mapped()), Run))
    console.print(progress)
    assert shown(console).splitlines()[-1].rstrip() == "✘  load  failed  340 ms  3 rows  ValueError: item 1: boom"


def test_items_of_a_mapped_block_are_shown_behind_it(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", RUN, mapped())

    lines = penstock("runs", "show", RUN_ID, "-o", "plain").stdout.splitlines()

    blocks = [line.split("\t")[:3] for line in lines if line.startswith("block\t")]
    assert blocks == [
        ["block", "load", "failed"],
        ["block", "load[0]", "success"],
        ["block", "load[1]", "failed"],
        ["block", "load[2]", "success"],
    ]


def test_watching_resumes_after_a_cut(server: CannedGateway) -> None:
    server.answers("GET", RUN, a_run())
    server.streams(STREAM, "retry: 1\n\n", sse("run", 1, state="running", attempt=1))
    server.streams(STREAM, sse("gap", 2), sse("run", 9, state="success", attempt=1), sse("end", None))
    console = terminal()
    assert watch(Client(server.url, ""), {"id": RUN_ID}, console=console, utc=True) is RunState.SUCCESS
    assert shown(console).splitlines()[1:] == [
        "09:40:00.500 run #12: running",
        "(some events were left out; the end is complete)",
        "09:40:00.500 run #12: success after 250 ms",
    ]


@pytest.mark.parametrize(("final", "code"), [(a_run(), 0), (FAILED, 7), (a_run(state="cancelled"), 7)])
def test_watch_exits_7_unless_the_run_succeeds(
    server: CannedGateway, penstock: Penstock, final: dict[str, Any], code: int
) -> None:
    stream_of_a_run(server, final=final)
    result = penstock("runs", "watch", RUN_ID)
    assert result.exit_code == code
    assert "load: success after 340 ms, 2 rows" in result.stdout


def test_watch_in_json_prints_the_events(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", RUN, a_run())
    server.streams(STREAM, sse("run", 1, state="success", attempt=1), sse("end", None))
    result = penstock("runs", "watch", RUN_ID, "--json")
    assert result.stdout == (
        '{"event":"run","data":{"seq":1,"at":"2026-11-20T09:40:00.500000Z",'
        f'"run_id":"{RUN_ID}","state":"success","attempt":1}}}}\n'
        f'{{"event":"end","data":{{"seq":null,"at":"2026-11-20T09:40:00.500000Z","run_id":"{RUN_ID}"}}}}\n'
    )


def test_trigger_waits_and_prints_only_the_finished_run_in_json(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/pipelines/orders/runs", BEGUN, status=202)
    server.answers("GET", RUN, FAILED)
    server.streams(STREAM, sse("run", 1, state="failed", attempt=1), sse("end", None))
    result = penstock("trigger", "orders", "--wait", "--json")
    assert msgspec.json.decode(result.stdout) == FAILED
    assert (result.exit_code, result.stderr) == (
        7,
        f"penstock: Run #12 is failed. Look into it: penstock runs show {RUN_ID}\n",
    )


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_waiting_too_long_exits_8(server: CannedGateway, penstock: Penstock, options: list[str]) -> None:
    server.answers("POST", "/v1/pipelines/orders/runs", BEGUN, status=202)
    server.answers("GET", RUN, BEGUN)
    server.streams(STREAM, sse("run", 1, state="running", attempt=1), holds=True)
    result = penstock("trigger", "orders", "--wait", "--timeout", "0.2", *options)
    assert result.exit_code == 8
    assert f"penstock: Run #12 has not ended yet. Watch on: penstock runs watch {RUN_ID}\n" in result.stderr


def test_logs_are_paged_through_and_printed_one_per_line(server: CannedGateway, penstock: Penstock) -> None:
    first = a_log_line(3, "load\x1b[2Jing", fields={"region": "eu", "text": "a b"})
    last = a_log_line(5, "two\nlines", level="error", block_id=None)
    server.answers("GET", f"{LOGS}?after=0&level=info&block_id=load&limit=200", {"items": [first], "next_cursor": "x"})
    server.answers("GET", f"{LOGS}?after=3&level=info&block_id=load&limit=200", {"items": [last], "next_cursor": None})
    options = ["--level", "info", "--block", "load", "--utc"]
    assert penstock("runs", "logs", RUN_ID, *options).stdout == (
        '2026-11-20 09:40:00 +00:00\tinfo\tload\tload[2Jing\tregion=eu text="a b"\n'
        "2026-11-20 09:40:00 +00:00\terror\t\ttwo lines\t\n"
    )
    assert lines(penstock("runs", "logs", RUN_ID, *options, "-o", "table").stdout) == [
        '2026-11-20 09:40:00 +00:00 info    load load[2Jing region=eu text="a b"',
        "2026-11-20 09:40:00 +00:00 error    two lines",
    ]
    assert msgspec.json.decode(penstock("runs", "logs", RUN_ID, *options, "--json").stdout) == [first, last]


def test_followed_logs_go_on_behind_the_stored_ones(server: CannedGateway, penstock: Penstock) -> None:
    stored = a_log_line(3, "stored", level="warning")
    server.answers("GET", LOGS, {"items": [stored], "next_cursor": None})
    live = [sse("log", seq, **without(a_log_line(seq, f"line {seq}", level=level))) for seq, level in LIVE]
    server.streams(STREAM, *live, sse("block", 7, block_id="load", state="success"), sse("end", None))
    result = penstock("runs", "logs", RUN_ID, "--follow", "--level", "warning", "--json")
    assert [msgspec.json.decode(line)["message"] for line in lines(result.stdout)] == ["stored", "line 5", "line 6"]
    assert [msgspec.json.decode(line)["fields"] for line in lines(result.stdout)] == [{}, {}, {}]
    assert server.asked[-1].headers["last-event-id"] == "3"


LIVE = [(3, "warning"), (4, "info"), (5, "warning"), (6, "error")]


def without(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("seq", "at", "run_id", "fields")}


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]
