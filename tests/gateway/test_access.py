import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway.access import ERROR_LINES_A_MINUTE, AccessLog, redact_path
from tests.captured_logs import captured_logs

TOKEN = "pst_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2W3x4Y"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    with captured_logs() as log:
        yield log


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def answering(status: int, headers: tuple[tuple[bytes, bytes], ...] = (), *, clock: Clock | None = None) -> Any:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        if clock is not None:
            clock.now += 0.25
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b""})

    return app


async def visit(app: Any, path: str = "/v1/runs", *, query: bytes = b"", length: bytes = b"17") -> dict[str, str]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": query,
        "headers": [(b"host", b"a"), (b"content-length", length)],
        "client": ("192.0.2.1", 4711),
    }
    await app(scope, None, send)
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]} if sent else {}


async def test_a_line_says_who_asked_for_what_and_how_it_went(log: io.StringIO) -> None:
    clock = Clock()
    headers = await visit(AccessLog(answering(202, clock=clock), mode="all", clock=clock))
    (line,) = lines(log)
    assert line.pop("timestamp")
    assert line == {
        "event": "request",
        "level": "info",
        "process": "test",
        "method": "POST",
        "path": "/v1/runs",
        "status": 202,
        "duration_ms": 250.0,
        "bytes": 17,
        "client": "192.0.2.1",
        "request_id": headers["x-request-id"],
    }


@pytest.mark.parametrize(
    ("mode", "logged"), [("off", []), ("errors", [400, 404, 503]), ("all", [200, 302, 400, 404, 503])]
)
async def test_the_setting_decides_which_answers_are_logged(log: io.StringIO, mode: Any, logged: list[int]) -> None:
    for status in (200, 302, 400, 404, 503):
        await visit(AccessLog(answering(status), mode=mode))
    assert [line["status"] for line in lines(log)] == logged


async def test_neither_token_nor_query_is_logged(log: io.StringIO) -> None:
    app = AccessLog(answering(404), mode="all")
    await visit(app, f"/hooks/7/{TOKEN}", query=b"api_key=hunter2")
    await visit(app, "/hooks/7/mistyped")
    assert [line["path"] for line in lines(log)] == ["/hooks/7/***", "/hooks/7/***"]
    assert "hunter2" not in log.getvalue()
    assert TOKEN not in log.getvalue()


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/hooks/7", "/hooks/7"),
        ("/hooks/7/", "/hooks/7/"),
        ("/hooks/7/short", "/hooks/7/***"),
        ("/hooks/7/a/b\n/c", "/hooks/7/***"),
        ("/hooks//short", "/hooks//***"),
        (f"/hooks/{TOKEN}", "/hooks/***"),
        ("/api/runs/260385a38d62466fb1c88fa8c5ca503f/x", "/api/runs/***/x"),
        ("/api/runs/260385a38d62466fb1c88fa8c5ca503f0", "/api/runs/260385a38d62466fb1c88fa8c5ca503f0"),
        (f"/v1/runs/{TOKEN}/logs", "/v1/runs/***/logs"),
        ("/v1/keys/xpsk_short", "/v1/keys/***"),
        ("/api/pipeline_schedules/7/pipeline_runs/0123abc", "/api/pipeline_schedules/7/pipeline_runs/***"),
        ("/api/pipeline_schedules/7/pipeline_runs", "/api/pipeline_schedules/7/pipeline_runs"),
        ("/v1/runs/01890a5d-ac96-774b-bcce-b302099a8057", "/v1/runs/01890a5d-ac96-774b-bcce-b302099a8057"),
        ("/v1/x/" + "a" * 40, "/v1/x/***"),
    ],
)
def test_secret_parts_of_a_path_are_masked(path: str, shown: str) -> None:
    assert redact_path(path) == shown


def test_a_long_path_is_cut() -> None:
    assert len(redact_path("/a" * 1000)) == 300


async def test_a_flood_of_errors_is_sampled_and_counted(log: io.StringIO) -> None:
    clock = Clock()
    app = AccessLog(answering(404), mode="errors", clock=clock)
    for _ in range(1000):
        await visit(app, "/hooks/7/guess")
    assert len(lines(log)) == ERROR_LINES_A_MINUTE
    clock.now += 60
    await visit(app, "/hooks/7/guess")
    await visit(app, "/hooks/7/guess")
    assert [line.get("suppressed") for line in lines(log)[-3:]] == [None, 1000 - ERROR_LINES_A_MINUTE, None]


async def test_one_kind_of_error_does_not_hide_another(log: io.StringIO) -> None:
    statuses = iter([404] * 100 + [503])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering(next(statuses))(scope, receive, send)

    logged = AccessLog(app, mode="errors")
    for _ in range(101):
        await visit(logged)
    assert lines(log)[-1]["status"] == 503


async def test_safe_headers_are_added_where_they_are_absent() -> None:
    headers = await visit(AccessLog(answering(200, ((b"cache-control", b"no-cache"),)), mode="off"))
    assert headers.pop("x-request-id")
    assert headers == {
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


async def test_each_request_has_its_own_id_which_its_log_lines_carry(log: io.StringIO) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        structlog.get_logger().info("inside")
        await answering(200)(scope, receive, send)

    logged = AccessLog(app, mode="off")
    ids = [(await visit(logged))["x-request-id"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert [line["request_id"] for line in lines(log)] == ids


async def test_a_client_that_left_is_logged_as_499(log: io.StringIO) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        return

    await visit(AccessLog(app, mode="errors"))
    assert lines(log)[0]["status"] == 499


async def test_a_failure_is_logged_and_passed_on(log: io.StringIO) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await visit(AccessLog(app, mode="errors"))
    assert lines(log)[0]["status"] == 500


async def test_other_protocols_pass_untouched(log: io.StringIO) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    await AccessLog(app, mode="all")({"type": "lifespan"}, "receive", "send")
    assert seen == [({"type": "lifespan"}, "receive", "send")]
    assert log.getvalue() == ""
