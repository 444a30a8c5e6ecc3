import asyncio
import io
import json
import logging
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from schemas import telemetry
from schemas.settings import Settings
from tests.captured_logs import captured_logs

TOKEN = "pst_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2W3x4Y"
KEY = "psk_canary-0123456789-canary"
URL = "postgresql://penstock:canary-password@db.internal:5432/penstock"
ESCAPE = "\x1b[31mred\x9b0m\r\n2026-01-01 [info] forged\u2028line"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    with captured_logs(role="gateway") as out:
        yield out


@pytest.fixture
def log(out: io.StringIO) -> Any:
    return structlog.get_logger()


def only(out: io.StringIO) -> dict[str, Any]:
    (line,) = out.getvalue().splitlines()
    event: dict[str, Any] = json.loads(line)
    return event


def assert_no_canary(text: str) -> None:
    assert TOKEN not in text
    assert TOKEN[:20] not in text
    assert "canary" not in text


def test_a_line_is_json_with_time_level_and_process(out: io.StringIO, log: Any) -> None:
    log.warning("late", seconds=3, id=uuid.UUID(int=7))
    event = only(out)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "late",
        "level": "warning",
        "process": "gateway",
        "seconds": 3,
        "id": "00000000-0000-0000-0000-000000000007",
    }


def test_context_is_on_every_line(out: io.StringIO, log: Any) -> None:
    with structlog.contextvars.bound_contextvars(run_id="42"):
        log.info("inside")
    assert only(out)["run_id"] == "42"


def test_the_level_is_a_setting() -> None:
    with captured_logs(log_level="error") as out:
        structlog.get_logger().warning("not shown")
        logging.getLogger("anything").warning("not shown")
        structlog.get_logger().error("shown")
    assert only(out)["event"] == "shown"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_passes_wherever_it_is(log_format: Any) -> None:
    with captured_logs(log_format=log_format) as out:
        log_secrets(structlog.get_logger())
    assert len(out.getvalue().splitlines()) >= 11
    assert_no_canary(out.getvalue())


def log_secrets(log: Any) -> None:
    log.info("called /hooks/7/%s?x=1 with %s", TOKEN, KEY)
    log.info("values", url=URL, path=f"/hooks/7/{TOKEN}", redis="redis://:canary@host:6379/0")
    log.info(
        "names", token="canary", Authorization="canary", set_cookie="canary", x_api_key="canary", password="canary"
    )
    log.info("nested", headers={"x-hub-signature-256": "canary", "list": [{"secret": "canary"}, f"a {TOKEN} b"]})
    log.info("keys", found={TOKEN: 1, f"k={KEY}": 2})
    log.info("others", error=ValueError(f"{URL} {KEY}"), raw=TOKEN.encode(), items=(TOKEN, {KEY}))
    log.info("query", url="http://a/x?token=canary&b=1", header="Authorization: Bearer canary-canary")
    log.info("settings", settings=Settings(database_url=URL, admin_key=KEY, secret_keys="canary", api_key="canary"))
    try:
        raise ConnectionError(f"{URL} refused {TOKEN}")
    except ConnectionError:
        log.exception("failed")
        logging.getLogger("asyncio").exception("failed with %s", KEY)
    logging.getLogger("uvicorn.error").error("GET /hooks/7/%s", TOKEN)


def test_what_is_no_secret_stays_readable(out: io.StringIO, log: Any) -> None:
    log.info("call", url="http://127.0.0.1:8787/v1/runs?limit=5", mail="a@b.c", when="12:30", idempotency_key="k")
    event = only(out)
    assert event["url"] == "http://127.0.0.1:8787/v1/runs?limit=5"
    assert (event["mail"], event["when"], event["idempotency_key"]) == ("a@b.c", "12:30", "k")


def test_redact_leaves_the_rest_of_a_text() -> None:
    assert telemetry.redact(f"/hooks/7/{TOKEN} and {URL}") == (
        "/hooks/7/pst_*** and postgresql://penstock:***@db.internal:5432/penstock"
    )
    trigger = "https://a/api/pipeline_schedules/7/pipeline_runs/"
    assert telemetry.redact(f"{trigger}260385a3?x=1 and /api/pipeline_runs/5") == (
        f"{trigger}***?x=1 and /api/pipeline_runs/5"
    )
    assert telemetry.redact("nothing here") == "nothing here"


def test_redact_is_linear() -> None:
    for hostile in (
        "://" * 200_000,
        "a" * 1_000_000 + "://",
        "pst_" * 200_000,
        "psk_ " * 200_000,
        "=" * 1_000_000,
        "/pipeline_runs/" * 100_000,
    ):
        assert telemetry.redact(hostile)


def test_standard_loggers_speak_the_same_way(out: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").error("port %d", 80)
    event = only(out)
    assert (event["event"], event["level"], event["process"]) == ("port 80", "error", "gateway")


def test_chatty_libraries_are_heard_from_warning_on(out: io.StringIO) -> None:
    for name in ("uvicorn.error", "asyncio", "arq.worker", "httpcore"):
        logging.getLogger(name).info("chatter")
    assert out.getvalue() == ""


def test_the_access_log_of_uvicorn_is_silent(out: io.StringIO) -> None:
    logging.getLogger("uvicorn.access").critical("/hooks/7/%s", TOKEN)
    logging.getLogger("httpx").critical("HTTP Request: POST https://hooks.example.com/services/%s", TOKEN)
    assert out.getvalue() == ""


def test_warnings_are_logged() -> None:
    with warnings.catch_warnings(), captured_logs() as out:
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    assert "old" in only(out)["event"]


def test_arguments_that_do_not_fit_do_not_raise(out: io.StringIO) -> None:
    logging.getLogger("somebody").error("%d items", "many")
    assert only(out)["event"] == "%d items"


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


def test_any_value_can_be_logged(out: io.StringIO, log: Any) -> None:
    loop: list[Any] = []
    loop.append(loop)
    log.info("odd", value=Unshowable(), loop=loop, huge=10**400, nan=float("nan"), surrogate="\udcff", keys={(1, 2): 3})
    log.info("odd", huge=10**400)
    log.info("odd", surrogate="\udcff")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["odd"] * 3


def test_a_long_value_is_cut(out: io.StringIO, log: Any) -> None:
    log.info("long", text="a" * 1_000_000)
    assert len(out.getvalue()) < 40_000


def test_a_broken_pipe_does_not_reach_whoever_logs() -> None:
    class Broken(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    with captured_logs(stream=Broken()):
        structlog.get_logger().info("into the void")
        logging.getLogger("somebody").error("into the void")


def test_a_terminal_gets_readable_lines_in_colour() -> None:
    with captured_logs(stream=Terminal()) as out:
        structlog.get_logger().info("listening", url="http://127.0.0.1:8787")
    assert "listening" in out.getvalue()
    assert "\x1b[" in out.getvalue()
    assert not out.getvalue().startswith("{")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_untrusted_text_cannot_forge_a_line_or_command_a_terminal(log_format: Any) -> None:
    with captured_logs(log_format=log_format) as out:
        structlog.get_logger().info(ESCAPE)
        structlog.get_logger().info("value", text=ESCAPE, nested={ESCAPE: [ESCAPE]})
        logging.getLogger("somebody").error("said %s", ESCAPE)
    assert len(out.getvalue().split("\n")) == 4
    assert not set(out.getvalue()) & {"\x1b", "\r"}
    if log_format == "console":
        assert not set(out.getvalue()) & {"\x9b", "\u2028"}


def test_a_traceback_on_a_terminal_is_indented_and_escaped() -> None:
    with captured_logs(log_format="console") as out:
        try:
            raise ValueError(ESCAPE)
        except ValueError:
            structlog.get_logger().exception("failed")
    first, *rest = out.getvalue().rstrip("\n").split("\n")
    assert "failed" in first
    assert all(line.startswith("  ") for line in rest)
    assert "\x1b" not in out.getvalue()


async def test_a_task_that_dies_unnoticed_is_logged(out: io.StringIO) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": "nobody looked", "exception": ValueError(KEY)})
    event = only(out)
    assert "ValueError" in event["exception"]
    assert_no_canary(out.getvalue())
