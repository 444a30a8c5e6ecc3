"""`penstock events` and `penstock replays` against canned answers: whole outputs, requests, exit codes."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from gateway.cli import tailing
from gateway.cli.client import Client
from tests.gateway.cli.canned_gateway import EVENT_ID, RUN_ID, SCHEDULE_ID, CannedGateway, an_event, sent
from tests.gateway.cli.conftest import Penstock

EVENT = f"/v1/events/{EVENT_ID}"
REPLAY_ID = "01980000-0000-7000-8000-000000000009"
AT = "2026-11-20 09:40:00 +00:00"


def a_page(*items: Any, cursor: str | None = None) -> dict[str, Any]:
    return {"items": items, "next_cursor": cursor}


def an_inspected_event(**changes: Any) -> dict[str, Any]:
    run = {"id": RUN_ID, "number": 12, "state": "success", "item": 0, "pipeline_id": "orders", "origin": "event"}
    run |= {"schedule_id": SCHEDULE_ID, "replay_id": None, "parent_id": None, "created_at": "2026-11-20T09:40:00Z"}
    preview = {"format": "json", "value": {"ref": "\x1b[2Jmain"}, "truncated": False}
    known = {"runs": [run], "duplicates": [], "body_preview": preview, "rules": None}
    return an_event(**(known | changes))


def a_replay(**changes: Any) -> dict[str, Any]:
    counts = {"events": 40, "accepted": 30, "filtered": 9, "rejected": 0, "handshake": 0, "skipped": 1, "runs": 31}
    how = {"mode": "today", "schedule_id": None, "rate_per_s": 10, "limit": None, "filter": {"source": "github"}}
    times = {"created_at": "2026-11-20T09:40:00Z", "finished_at": "2026-11-20T09:40:04Z"}
    whole = {"id": REPLAY_ID, "number": 3, "requested_by": "ada", "event_id": None, "state": "completed"}
    return whole | {"expected": 40, "progress": 1.0} | counts | how | times | changes


def a_comparison(**changes: Any) -> dict[str, Any]:
    differences = [{"pointer": "/variables/region", "then": "eu", "now": {"a": 1}}, {"pointer": "/x", "now": None}]
    was = {"verdict": "filtered", "reason_code": "filter_false", "reason": "The filter is false."}
    judged = {"verdict": "accepted", "reason_code": None, "reason": None, "run_count": 1, "was": was}
    run = {"item": 0, "then": None, "now": None, "differences": differences}
    return {"event_id": EVENT_ID, "mode": "today", "schedule_id": SCHEDULE_ID, **judged, "runs": [run], **changes}


def a_replayed_event(**changes: Any) -> dict[str, Any]:
    run = {"id": RUN_ID, "number": 13, "state": "queued", "url": "u", "stream_url": "s"}
    judged = {"verdict": "accepted", "reason_code": None, "reason": None, "runs": [run]}
    where = {"replay_id": REPLAY_ID, "event_id": EVENT_ID, "mode": "as_was", "schedule_id": SCHEDULE_ID}
    return where | judged | changes


def a_preview(**changes: Any) -> dict[str, Any]:
    by_verdict = {"accepted": 2, "filtered": 1}
    return {"count": 3, "is_complete": True, "by_verdict": by_verdict, "events": [a_comparison()]} | changes


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_events_are_listed_with_verdict_reason_and_runs(server: CannedGateway, penstock: Penstock) -> None:
    refused = an_event(
        verdict="rejected", reason_code="bad_signature", event_type=None, runs=[], size=2048, source="\x1b[2Jx"
    )
    server.answers("GET", "/v1/events", a_page(an_event(has_more_runs=True), refused))
    plain, table = penstock("events", "ls", "--utc"), penstock("events", "ls", "--utc", "-o", "table")

    assert plain.stdout == (
        f"{AT}\tgithub\tpush\taccepted\t\t92 B\t#12 ...\t{EVENT_ID}\n"
        f"{AT}\t[2Jx\t\trejected\tbad_signature\t2.0 KiB\t\t{EVENT_ID}\n"
    )
    assert lines(table.stdout) == [
        "received                    source  type  verdict   reason            size  runs     id",
        f"{AT}  github  push  accepted                    92 B  #12 ...  {EVENT_ID}",
        f"{AT}  [2Jx          rejected  bad_signature  2.0 KiB           {EVENT_ID}",
    ]


def test_every_filter_reaches_the_api_under_its_own_name(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/events", a_page())
    words = ["--schedule", "7", "--pipeline", "orders", "--source", "github", "--verdict", "rejected"]
    more = ["--reason-code", "bad_signature", "--event-type", "push", "--dedupe-key", "k", "--q", "a b"]
    times = ["--since", "2026-11-20T09:00Z", "--until", "2026-11-20T10:00+01:00", "--limit", "3"]

    result = penstock("events", "ls", *words, *more, *times)

    assert server.asked[0].target == (
        "/v1/events?schedule_id=7&pipeline_id=orders&source=github&verdict=rejected&reason_code=bad_signature"
        "&event_type=push&dedupe_key=k&created_after=2026-11-20T09%3A00%3A00%2B00%3A00"
        "&created_before=2026-11-20T09%3A00%3A00%2B00%3A00&q=a+b&limit=3"
    )
    assert (result.stdout, result.stderr) == ("", "No events. Send one: penstock send SCHEDULE\n")


def test_an_empty_page_is_not_the_end_of_a_list(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/events", a_page(cursor="c"))
    server.answers("GET", "/v1/events?limit=50&cursor=c", a_page(an_event()))
    assert msgspec.json.decode(penstock("events", "ls", "--json").stdout) == [an_event()]


def test_an_event_is_shown_with_all_that_is_known_of_it(server: CannedGateway, penstock: Penstock) -> None:
    again = {"id": EVENT_ID, "reason_code": "different_body", "size": 93, "sha256": None}
    again["received_at"] = "2026-11-20T09:40:00Z"
    inspected = an_inspected_event(
        observed="The header is missing.", deliveries=3, conflicts=1, replays=2, query="a=***", duplicates=[again]
    )
    server.answers("GET", EVENT, inspected)

    table = penstock("events", "show", EVENT_ID, "--utc", "-o", "table")

    assert lines(table.stdout) == [
        f"event             {EVENT_ID}",
        f"schedule          {SCHEDULE_ID}",
        "source            github",
        "type              push",
        "verdict           accepted",
        "strict would say  The header is missing.",
        "dedupe key        github:1",
        "deliveries        3, 1 with another body",
        "replays           2",
        f"received          {AT}",
        "content type      application/json",
        "body              json, 92 B",
        "sha256            ab12",
        "query             a=***",
        "",
        "header               value",
        "content-type         application/json",
        "x-hub-signature-256  ***",
        "",
        "check      microseconds",
        "signature            89",
        "rules                14",
        "",
        "run  state    pipeline  origin  item  id",
        f"#12  success  orders    event      0  {RUN_ID}",
        "",
        "duplicate                             received                    body            size",
        f"{EVENT_ID}  {AT}  different body  93 B",
        "",
        "body",
        "  {",
        '    "ref": "\\u001b[2Jmain"',
        "  }",
    ]
    assert msgspec.json.decode(penstock("events", "show", EVENT_ID, "--json").stdout) == inspected


@pytest.mark.parametrize(
    ("preview", "shown"),
    [
        ({"format": "text", "value": "a\n\x1b[2Jb", "truncated": True}, ["a", "[2Jb", "(cut off; --body shows all)"]),
        ({"format": "hex", "value": "00ff", "truncated": False}, ["00ff"]),
        ({"format": "json", "value": "a text", "truncated": False}, ['"a text"']),
        ({"format": "none", "value": None, "truncated": False}, []),
    ],
)
def test_the_beginning_of_a_body_is_shown_as_what_it_is(
    preview: dict[str, Any], shown: list[str], server: CannedGateway, penstock: Penstock
) -> None:
    server.answers("GET", EVENT, an_inspected_event(body_preview=preview))
    rows = [line.split("\t") for line in penstock("events", "show", EVENT_ID).stdout.splitlines()]
    assert [row[1] for row in rows if row[0] == "body"][1:] == shown


def test_an_explanation_is_a_table_of_steps_and_of_what_their_expressions_are_made_of(
    server: CannedGateway, penstock: Penstock
) -> None:
    parts = [
        {"text": "body.ref == 'main' && body.x.y", "line": 1, "column": 1, "value": False},
        {"text": "body.ref", "line": 1, "column": 1, "value": "dev\x1b[2J"},
        {"text": "body.x.y", "line": 1, "column": 22, "error": "there is no field y"},
        {"text": "body", "line": 1, "column": 1, "value": '{"ref":', "is_cut": True},
        {"text": "body.nothing", "line": 1, "column": 1},
    ]
    steps = [
        {"step": "token", "finding": "it fires this schedule"},
        {"step": "filter", "finding": "false", "parts": parts},
    ]
    today = {
        "verdict": "accepted",
        "reason_code": None,
        "reason": None,
        "steps": [{"step": "filter", "finding": "true"}],
    }
    told = {
        "event_id": EVENT_ID,
        "verdict": "filtered",
        "reason_code": "filter_false",
        "reason": "The filter is false.",
    }
    server.answers("GET", f"{EVENT}/explain", told | {"steps": steps, "today": today})

    table = penstock("events", "explain", EVENT_ID, "-o", "table")

    assert lines(table.stdout) == [
        "step    finding                           value",
        "token   it fires this schedule",
        "filter  false",
        "          body.ref == 'main' && body.x.y  false",
        '          body.ref                        "dev\\u001b[2J"',
        "          body.x.y                        error: there is no field y",
        '          body                            {"ref":...',
        "          body.nothing                    null",
        "",
        "by today's rules  accepted",
        "",
        "step    finding  value",
        "filter  true",
    ]
    assert msgspec.json.decode(penstock("events", "explain", EVENT_ID, "--json").stdout)["today"] == today


def test_named_events_are_replayed_one_by_one(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", f"{EVENT}/replay", a_replayed_event(), status=202)

    result = penstock("events", "replay", EVENT_ID, EVENT_ID, "--mode", "today", "--to", "9")

    assert [msgspec.json.decode(asked.body) for asked in server.asked] == [
        {"mode": "today", "schedule_id": "9", "dry_run": False}
    ] * 2
    assert (result.exit_code, result.stdout) == (0, f"accepted\t\t#13\t{EVENT_ID}\n" * 2)


def test_a_replay_that_became_no_run_exits_5_and_says_why(server: CannedGateway, penstock: Penstock) -> None:
    filtered = a_replayed_event(verdict="filtered", reason="The filter is false.", runs=[], replay_id=None)
    server.answers("POST", f"{EVENT}/replay", a_replayed_event(), status=202)
    server.answers("POST", f"{EVENT}/replay", filtered)

    result = penstock("events", "replay", EVENT_ID, EVENT_ID)

    assert result.exit_code == 5
    assert result.stdout == f"accepted\t\t#13\t{EVENT_ID}\nfiltered\tThe filter is false.\t\t{EVENT_ID}\n"
    assert result.stderr == (f"penstock: 1 of 2 became no run.\nEvent {EVENT_ID} is filtered: The filter is false.\n")


def test_what_was_replayed_before_a_failure_is_told(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", f"{EVENT}/replay", a_replayed_event(), status=202)
    server.refuses("POST", f"{EVENT}/replay", 409, detail="Its body was not kept.")

    result = penstock("events", "replay", EVENT_ID, EVENT_ID, EVENT_ID)

    assert (result.exit_code, result.stderr) == (5, "penstock: Its body was not kept.\n")
    assert (result.stdout, len(server.asked)) == (f"accepted\t\t#13\t{EVENT_ID}\n", 2)


def test_nothing_to_replay_is_not_found_and_starts_nothing(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/events/replay", a_preview(count=0, by_verdict={}, events=[]))
    result = penstock("events", "replay", "--source", "github")
    assert (result.exit_code, result.stdout, len(server.asked)) == (3, "", 1)


def test_a_dry_run_shows_then_and_now(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", f"{EVENT}/replay", a_comparison())

    result = penstock("events", "replay", EVENT_ID, "--dry-run", "-o", "table")

    assert sent(server) == {"dry_run": True}
    assert lines(result.stdout) == [
        f"event     {EVENT_ID}",
        "mode      today",
        f"schedule  {SCHEDULE_ID}",
        "was       filtered: The filter is false.",
        "would be  accepted",
        "runs      1",
        "",
        "item  place              then  now",
        '   0  /variables/region  "eu"  {"a":1}',
        "   0  /x                       null",
    ]


def test_many_are_counted_first_then_replayed_and_seen_through(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/events/replay", a_preview())
    server.answers("POST", "/v1/events/replay", a_replay(state="running", progress=0.0), status=202)
    server.answers("GET", f"/v1/replays/{REPLAY_ID}", a_replay(state="running", progress=0.5))
    server.answers("GET", f"/v1/replays/{REPLAY_ID}", a_replay())
    options = ["--source", "github", "--since", "2026-11-20T09:00Z"]

    result = penstock("events", "replay", *options, "--rate", "10", "--limit", "40", "-o", "table", "--utc")

    asked = [msgspec.json.decode(asked.body) for asked in server.asked[:2]]
    which = {"source": "github", "created_after": "2026-11-20T09:00:00+00:00"}
    whole = {"filter": which, "rate_per_s": 10, "limit": 40}
    assert asked == [whole | {"dry_run": True}, whole]
    assert lines(result.stdout) == [
        "replay    3",
        f"id        {REPLAY_ID}",
        "by        ada",
        "state     completed",
        "mode      today",
        "rate      10 a second",
        "events    40 of 40",
        "became    30 accepted, 9 filtered, 1 skipped",
        "runs      31",
        f"created   {AT}",
        "finished  2026-11-20 09:40:04 +00:00",
        "",
        "filter",
        "  {",
        '    "source": "github"',
        "  }",
    ]


def test_a_dry_run_of_many_counts_and_shows_the_first(server: CannedGateway, penstock: Penstock) -> None:
    stuck = a_comparison(verdict=None, reason="Its body was not kept.", run_count=0, runs=[])
    server.answers("POST", "/v1/events/replay", a_preview(is_complete=False, events=[a_comparison(), stuck]))

    result = penstock("events", "replay", "--source", "github", "--dry-run", "-o", "table")

    assert len(server.asked) == 1
    assert lines(result.stdout) == [
        "events    more than 3 events",
        "verdicts  2 accepted, 1 filtered",
        "",
        "was       verdict       reason                  runs  different             event",
        f"filtered  accepted                                 1  /variables/region /x  {EVENT_ID}",
        f"filtered  not replayed  Its body was not kept.     0                        {EVENT_ID}",
    ]


@pytest.mark.parametrize(
    "options",
    [
        ["replay"],
        ["replay", EVENT_ID, "--source", "github"],
        ["replay", EVENT_ID, "--rate", "3"],
        ["replay", "--source", "github", "--follow"],
        ["show", EVENT_ID, "--file", "x"],
        ["tail", "--since", "1h"],
    ],
)
def test_options_that_do_not_go_together_exit_2(server: CannedGateway, penstock: Penstock, options: list[str]) -> None:
    assert penstock("events", *options).exit_code == 2
    assert server.asked == []


def test_replays_are_listed_and_cancelled(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/replays", a_page(a_replay()))
    server.answers("POST", "/v1/replays/3/cancel", a_replay(state="cancelled"), status=202)

    listed, cancelled = penstock("replays", "ls", "--state", "completed", "--utc"), penstock("replays", "cancel", "3")

    assert server.asked[0].target == "/v1/replays?state=completed&limit=200"
    assert listed.stdout == f"3\tcompleted\t40\t31\t{AT}\tada\t{REPLAY_ID}\n"
    assert "state\tcancelled\n" in cancelled.stdout


def told(cursor: str, number: int, **changes: Any) -> str:
    """Write what the stream tells of the event of this number."""
    data = {"event_id": id_of(number), "source": "github", "verdict": "accepted", "size": 2} | changes
    return f"id: {cursor}\nevent: event\ndata: {msgspec.json.encode(data).decode()}\n\n"


def id_of(number: int) -> str:
    return f"01980000-0000-7000-8000-{number:012x}"


def test_tail_asks_the_list_for_what_the_stream_tells_and_goes_on_behind_a_gap(server: CannedGateway) -> None:
    server.streams(
        "/v1/stream",
        told("1-a-0", 1),
        told("2-b-0", 2),
        told("3-c-0", 3, verdict="filtered"),
        told("4-d-0", 4),
        'event: gap\ndata: {"missed":2}\n\n',
        told("7-9-0", 7),
    )
    server.streams("/v1/stream", told("5-e-0", 5), holds=True)
    around = {"created_after": "2025-07-12T18:57:36.768000+00:00", "created_before": "2025-07-12T18:57:36.769000+00:00"}
    which = {"verdict": "accepted", "q": "x"}
    server.answers("GET", "/v1/events", a_page(an_event(id=id_of(2)), an_event(id=id_of(4))))
    server.refuses("GET", "/v1/events", 503, detail="Away.")
    server.answers("GET", "/v1/events", a_page())
    server.answers("GET", "/v1/events", a_page(an_event(id=id_of(4)), an_event(id=id_of(5))))
    newest = [msgspec.Raw(msgspec.json.encode(an_event(id=id_of(1))))]

    items = tailing.watch(Client(server.url, ""), which, start="0-0-0", newest=newest, note=print)
    found = [msgspec.json.decode(next(items))["id"] for _ in range(3)]

    assert found == [id_of(1), id_of(2), id_of(5)]
    streams = [asked for asked in server.asked if asked.target.startswith("/v1/stream")]
    assert [(one.target, one.headers["last-event-id"]) for one in streams] == [
        ("/v1/stream?topics=events", "0-0-0"),
        ("/v1/stream?topics=events", "4-d-0"),
    ]
    lists = [dict(parse_qsl(urlsplit(asked.target).query)) for asked in server.asked if asked not in streams]
    assert lists == [which | around | {"limit": "200"}] * 4
