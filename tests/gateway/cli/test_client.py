"""Requests, problems, and event streams, over real sockets."""

import socket
import time
from typing import Any

import pytest

from gateway.cli.client import Client, WaitTimeout, path
from gateway.cli.event_stream import EventParser, ServerSentEvent
from schemas.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PenstockError,
    SettingsError,
    Unauthenticated,
    Unavailable,
)
from tests.gateway.cli.canned_gateway import CannedGateway, sse


def parse(*chunks: bytes) -> list[ServerSentEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.fixture
def client(server: CannedGateway) -> Client:
    return Client(server.url, "psk_secret", timeout=5)


def test_a_request_carries_key_query_and_json_body(server: CannedGateway, client: Client) -> None:
    server.answers("POST", "/v1/things", {"id": 1})
    answer = client.request("POST", "/v1/things", query={"q": "a b", "none": None}, body={"x": [1]})
    asked = server.asked[0]
    assert answer == {"id": 1}
    assert (asked.method, asked.target, asked.body) == ("POST", "/v1/things?q=a+b", b'{"x":[1]}')
    assert asked.headers["authorization"] == "Bearer psk_secret"
    assert asked.headers["content-type"] == "application/json"


def test_an_answer_without_content_is_none(server: CannedGateway, client: Client) -> None:
    server.answers("DELETE", "/v1/things/1", status=204)
    assert client.request("DELETE", "/v1/things/1") is None


def test_numbers_beyond_a_double_can_be_read(server: CannedGateway, client: Client) -> None:
    server.answers("GET", "/v1/things", b'{"n": 1e400}')
    assert client.request("GET", "/v1/things") == {"n": float("inf")}


def test_a_gateway_below_a_path_is_reached_there(server: CannedGateway) -> None:
    server.answers("GET", "/penstock/v1/things", [])
    assert Client(f"{server.url}/penstock/", "").request("GET", "/v1/things") == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (422, Invalid),
        (503, Unavailable),
        (500, PenstockError),
    ],
)
def test_a_problem_becomes_the_error_that_it_stands_for(
    server: CannedGateway, client: Client, status: int, kind: type[PenstockError]
) -> None:
    server.refuses("GET", "/v1/things", status, title="Title", detail="What went wrong.")
    with pytest.raises(kind) as caught:
        client.request("GET", "/v1/things")
    assert caught.value.message.splitlines()[0] == "What went wrong."


def test_wrong_fields_are_named_one_per_line(server: CannedGateway, client: Client) -> None:
    errors = [{"pointer": "/name", "message": "is missing"}, {"pointer": "/age", "message": "must be >= 0"}]
    server.refuses("POST", "/v1/things", 422, title="Invalid", detail="Two fields are wrong.", errors=errors)
    with pytest.raises(Invalid) as caught:
        client.request("POST", "/v1/things", body={})
    assert caught.value.message == "Two fields are wrong.\n  /name: is missing\n  /age: must be >= 0"


def test_a_problem_cannot_steer_the_terminal(server: CannedGateway, client: Client) -> None:
    server.refuses("GET", "/v1/things", 409, detail="no\x1b]0;owned\x07 way\u009b31m")
    with pytest.raises(Conflict) as caught:
        client.request("GET", "/v1/things")
    assert caught.value.message == "no]0;owned way31m"


def test_a_missing_key_is_explained_and_a_key_is_never_repeated(server: CannedGateway, client: Client) -> None:
    server.refuses("GET", "/v1/things", 401, detail="A valid API key is needed.")
    with pytest.raises(Unauthenticated) as without_key:
        Client(server.url, "").request("GET", "/v1/things")
    with pytest.raises(Unauthenticated) as with_key:
        client.request("GET", "/v1/things")
    assert "set PENSTOCK_API_KEY" in without_key.value.message
    assert with_key.value.message == "A valid API key is needed."


def test_nobody_there_is_unavailable_and_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        Client(f"http://127.0.0.1:{port}", "psk_secret").request("GET", "/v1/runs")
    assert caught.value.message == (
        f"No gateway answers at http://127.0.0.1:{port} (connection refused).\n"
        "Start one with `penstock up`, or name another with --url or PENSTOCK_URL."
    )


def test_an_answer_that_never_comes_is_unavailable(server: CannedGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="no answer in time"):
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", "", timeout=0.05).request("GET", "/v1/runs")


def test_another_kind_of_server_is_recognised(server: CannedGateway, client: Client) -> None:
    server.answers("GET", "/v1/html", b"<html>hello</html>", status=404)
    server.answers("GET", "/v1/page", b"<html>hello</html>")
    with pytest.raises(PenstockError, match="answered 404, but not as a Penstock gateway does"):
        client.request("GET", "/v1/html")
    with pytest.raises(PenstockError, match="is it a Penstock gateway"):
        client.request("GET", "/v1/page")


@pytest.mark.parametrize("url", ["localhost:8787", "ftp://x", "http://", "http://x:99999", "http://user:pw@x"])
def test_a_url_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="must look like"):
        Client(url, "")


@pytest.mark.parametrize("typed", ["", ".", ".."])
def test_a_path_cannot_be_left_through_an_id(typed: str) -> None:
    assert path("runs", "a/../b?c") == "/v1/runs/a%2F..%2Fb%3Fc"
    with pytest.raises(NotFound):
        path("runs", typed)


def test_a_delivery_is_posted_as_it_is_without_the_key(server: CannedGateway, client: Client) -> None:
    server.answers("POST", "/hooks/7/pst_x", {"status": "accepted"}, status=202)
    answer = client.deliver(f"{server.url}/hooks/7/pst_x", b"\x00raw", {"X-GitHub-Event": "push"})
    asked = server.asked[0]
    assert (answer.status, answer.content) == (202, b'{"status":"accepted"}')
    assert asked.body == b"\x00raw"
    assert asked.headers["x-github-event"] == "push"
    assert "authorization" not in asked.headers


def test_an_undeliverable_hook_url_is_not_repeated(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        client.deliver(f"http://127.0.0.1:{port}/hooks/7/pst_secret", b"", {})
    assert "pst_secret" not in caught.value.message


def test_pages_are_followed_until_the_limit(server: CannedGateway, client: Client) -> None:
    server.answers("GET", "/v1/runs?limit=3", {"items": [1, 2], "next_cursor": "c"})
    server.answers("GET", "/v1/runs?limit=1&cursor=c", {"items": [3], "next_cursor": "d"})
    server.answers("GET", "/v1/runs?limit=200", {"items": [1, 2], "next_cursor": "e"})
    server.answers("GET", "/v1/runs?limit=200&cursor=e", {"items": [3], "next_cursor": None})
    assert [bytes(item) for item in client.pages("/v1/runs", query={}, limit=3)] == [b"1", b"2", b"3"]
    assert [bytes(item) for item in client.pages("/v1/runs", query={}, limit=None)] == [b"1", b"2", b"3"]


PARSED: list[tuple[str, bytes, list[tuple[str, str | None, str]]]] = [
    ("fields", b"id: 1\nevent: run\ndata: {}\n\n", [("run", "1", "{}")]),
    ("several lines", b"data: a\ndata:  b\ndata\n\n", [("message", None, "a\n b\n")]),
    ("line endings", b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [("message", None, text) for text in "abc"]),
    ("comments", b": ping\n\n: ping\ndata:x\n:y\n\n", [("message", None, "x")]),
    ("byte order mark", b"\xef\xbb\xbfdata: x\n\n", [("message", None, "x")]),
    ("id stays", b"id: 7\ndata: a\n\nevent: end\ndata: b\n\n", [("message", "7", "a"), ("end", "7", "b")]),
    ("nul in id", b"id: 7\0\ndata: a\n\n", [("message", None, "a")]),
    ("no data", b"event: run\nid: 3\n\ndata: x\n\n", [("message", "3", "x")]),
    ("unfinished", b"data: a\n\ndata: b\n", [("message", None, "a")]),
    ("unknown field", b"colour: red\ndata: \xc3\xbc\n\n", [("message", None, "ü")]),
]


@pytest.mark.parametrize(("name", "content", "events"), PARSED, ids=[case[0] for case in PARSED])
def test_events_are_parsed_by_the_standard_however_they_are_cut(
    name: str, content: bytes, events: list[tuple[str, str | None, str]]
) -> None:
    expected = [ServerSentEvent(*event) for event in events]
    assert parse(content) == expected, name
    assert parse(*(content[i : i + 1] for i in range(len(content)))) == expected, name


def test_an_event_cut_off_behind_its_id_is_asked_for_again() -> None:
    parser = EventParser()
    list(parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n"))
    assert parser.last_event_id == "1"


def test_a_broken_stream_goes_on_behind_the_last_event(server: CannedGateway, client: Client) -> None:
    server.streams("/v1/s", "retry: 1\n\n", sse("run", 1), sse("block", 2), "id: 3\nevent: block\nda")
    server.refuses("GET", "/v1/s", 503, detail="Draining.")
    server.streams("/v1/s", sse("block", 3), sse("end", None))
    events = [(event.event, event.id) for event in client.stream("/v1/s")]
    assert events == [("run", "1"), ("block", "2"), ("block", "3"), ("end", "3")]
    assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "2", "2"]


def test_a_stream_can_begin_behind_an_event(server: CannedGateway, client: Client) -> None:
    server.streams("/v1/s", sse("end", None))
    list(client.stream("/v1/s", last_event_id="41"))
    assert server.asked[0].headers["last-event-id"] == "41"


def test_a_stream_that_cannot_be_opened_fails_at_once(server: CannedGateway, client: Client) -> None:
    server.refuses("GET", "/v1/s", 404, detail="There is no such run.")
    with pytest.raises(NotFound, match="There is no such run"):
        list(client.stream("/v1/s"))


def test_a_stream_that_never_comes_back_is_given_up(server: CannedGateway, client: Client) -> None:
    server.streams("/v1/s", "retry: 0\n\n", sse("run", 1))
    server.refuses("GET", "/v1/s", 503, detail="Gone.")
    with pytest.raises(Unavailable, match="did not come back"):
        list(client.stream("/v1/s"))


def test_a_stream_that_was_cut_before_its_first_event_goes_on_from_where_it_began(
    server: CannedGateway, client: Client
) -> None:
    server.streams("/v1/s", "retry: 1\n: watching\nid: 7-a-0\n\n")
    server.refuses("GET", "/v1/s", 503, detail="Draining.")
    server.refuses("GET", "/v1/s", 503, detail="Still draining.")
    server.streams("/v1/s", sse("end", None))
    told: list[str] = []

    list(client.stream("/v1/s", cut=told.append))

    assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, *["7-a-0"] * 3]
    assert told == ["Draining."]


def test_where_a_stream_stands_is_its_first_id(server: CannedGateway, client: Client) -> None:
    server.streams("/v1/s", ": watching\nid: 7-a-0\n\n", holds=True)
    server.streams("/v1/s", ": an older gateway says none\n\n")

    assert client.position("/v1/s") == "7-a-0"
    with pytest.raises(Unavailable, match="does not say where"):
        client.position("/v1/s")


def test_a_silent_stream_ends_at_the_deadline(server: CannedGateway, client: Client) -> None:
    server.streams("/v1/s", sse("run", 1), holds=True)
    seen: list[Any] = []
    with pytest.raises(WaitTimeout):
        seen.extend(event.id for event in client.stream("/v1/s", deadline=time.monotonic() + 0.2))
    assert (seen, len(server.asked)) == (["1"], 1)
