"""A small HTTP server that answers what a test told it to, and remembers what it was asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

RUN_ID = "01980000-0000-7000-8000-000000000012"
SCHEDULE_ID = "01980000-0000-7000-8000-000000000007"
TOKEN_ID = "01980000-0000-7000-8000-000000000003"
EVENT_ID = "01980000-0000-7000-8000-000000000005"
KEY_ID = "01980000-0000-7000-8000-000000000004"


class Canned(msgspec.Struct, frozen=True):
    """One answer; a stream is sent as its pieces, then the connection is cut."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    pieces: tuple[bytes, ...] | None = None
    holds: bool = False


class Asked(msgspec.Struct, frozen=True):
    """One request as it came; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class CannedGateway:
    """Answers by method and path; several answers for one path are given one after the other, the last for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.url = ""
        self.released = threading.Event()
        self._answers: dict[tuple[str, str], list[Canned]] = {}

    def answers(self, method: str, path: str, content: Any = None, *, status: int = 200) -> None:
        """Add an answer: bytes as they are, anything else as JSON."""
        body = content if isinstance(content, bytes) else b"" if content is None else msgspec.json.encode(content)
        self._add(method, path, Canned(status, body))

    def refuses(self, method: str, path: str, status: int, **problem: Any) -> None:
        """Add an answer that is a problem (RFC 9457)."""
        body = msgspec.json.encode({"type": "about:blank", "status": status, **problem})
        self._add(method, path, Canned(status, body, "application/problem+json"))

    def streams(self, path: str, *pieces: str, holds: bool = False) -> None:
        """Add a stream of events; when it `holds`, it stays open and silent after the last piece."""
        encoded = tuple(piece.encode() for piece in pieces)
        self._add("GET", path, Canned(200, b"", "text/event-stream", encoded, holds))

    def next_answer(self, method: str, target: str) -> Canned:
        """Take the next answer for a request."""
        waiting = self._answers.get((method, target)) or self._answers.get((method, target.partition("?")[0]))
        if not waiting:
            problem = {"status": 404, "title": "Not found", "detail": f"There is no {target}."}
            return Canned(404, msgspec.json.encode(problem), "application/problem+json")
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def _add(self, method: str, path: str, answer: Canned) -> None:
        self._answers.setdefault((method, path), []).append(answer)


@contextmanager
def canned_gateway() -> Iterator[CannedGateway]:
    """Serve a CannedGateway on a free port of this machine."""
    gateway = CannedGateway()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            gateway.asked.append(Asked(self.command, self.path, headers, body))
            answer = gateway.next_answer(self.command, self.path)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            if answer.pieces is None:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            for piece in answer.pieces or (answer.body,):
                self.wfile.write(piece)
                self.wfile.flush()
            if answer.holds:
                gateway.released.wait(30)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 (names that http.server looks for)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield gateway
        finally:
            gateway.released.set()
            server.shutdown()
            thread.join()


def sent(server: CannedGateway) -> Any:
    """Read the body of the last request."""
    return msgspec.json.decode(server.asked[-1].body)


def a_run(**changes: Any) -> dict[str, Any]:
    """Make a finished run as the API shows it."""
    return {
        "id": RUN_ID,
        "number": 12,
        "pipeline_id": "orders",
        "schedule_id": SCHEDULE_ID,
        "event_id": None,
        "state": "success",
        "variables": {"region": "eu"},
        "event_variables": {"ref": "refs/heads/main"},
        "logical_date": None,
        "run_key": None,
        "note": None,
        "origin": "event",
        "parent_id": None,
        "resumed_from": None,
        "backfill_id": None,
        "replay_id": None,
        "queue": "default",
        "passed_sla": False,
        "callback_url": None,
        "attempt": 1,
        "created_at": "2026-11-20T09:40:00Z",
        "started_at": "2026-11-20T09:40:00.250000Z",
        "finished_at": "2026-11-20T09:40:01.500000Z",
        "error": None,
        "block_runs": [a_block("load", row_count=2), a_block("transform", duration_ms=65_000)],
        **changes,
    }


def a_block(block_id: str, **changes: Any) -> dict[str, Any]:
    """Make a finished block run as the API shows it."""
    return {
        "block_id": block_id,
        "map_index": None,
        "state": "success",
        "attempt": 1,
        "row_count": None,
        "queue_ms": 12,
        "duration_ms": 340,
        "started_at": "2026-11-20T09:40:00.250000Z",
        "finished_at": "2026-11-20T09:40:00.590000Z",
        "error": None,
        **changes,
    }


def a_pipeline(**changes: Any) -> dict[str, Any]:
    """Make a pipeline as the API shows it."""
    blocks = [
        {"id": "load", "retries": 3, "timeout": 60.0, "doc": "Fetch the orders."},
        {"id": "enrich", "upstream": ["load"]},
        {"id": "transform", "upstream": ["load"], "retries": 1},
        {"id": "publish", "upstream": ["enrich", "transform"]},
    ]
    return {
        "id": "orders",
        "version": "0123456789abcdef" * 4,
        "doc": "Orders of the day.",
        "graph": {"blocks": blocks},
        "params_schema": {"type": "object"},
        "max_active_runs": 4,
        "queue": "default",
        "run_timeout_s": None,
        "notify": {},
        "is_paused": False,
        "on_paused": "queue",
        "file": "orders.py",
        "error": None,
        "created_at": "2026-11-20T09:00:00Z",
        "updated_at": "2026-11-20T09:30:00Z",
        **changes,
    }


def a_schedule(**changes: Any) -> dict[str, Any]:
    """Make a schedule as the API shows it."""
    return {
        "id": SCHEDULE_ID,
        "number": 7,
        "pipeline_id": "orders",
        "name": "pushes",
        "kind": "api",
        "next_fire_at": None,
        "last_fired_at": None,
        "source": "github",
        "source_config": {"secrets": ["***"]},
        "filter": None,
        "mapping": {},
        "dedupe": None,
        "split": False,
        "variables": {},
        "is_paused": False,
        "on_paused": "queue",
        "max_active_runs": None,
        "body_limit": None,
        "cron": None,
        "every_s": None,
        "timezone": "UTC",
        "start_at": None,
        "end_at": None,
        "catchup": False,
        "jitter_s": 0,
        "overlap": "allow",
        "sla_s": None,
        "run_timeout_s": None,
        "max_queue_age_s": None,
        "notify": {},
        "created_at": "2026-11-20T09:00:00Z",
        "updated_at": "2026-11-20T09:00:00Z",
        **changes,
    }


def an_event(**changes: Any) -> dict[str, Any]:
    """Make an event as the API lists it."""
    return {
        "id": EVENT_ID,
        "schedule_id": SCHEDULE_ID,
        "source": "github",
        "verdict": "accepted",
        "reason_code": None,
        "reason": None,
        "event_type": "push",
        "dedupe_key": "github:1",
        "content_type": "application/json",
        "kind": "json",
        "size": 92,
        "sha256": "ab12",
        "deliveries": 1,
        "conflicts": 0,
        "headers": {"content-type": "application/json", "x-hub-signature-256": "***"},
        "query": "",
        "timings": {"signature": 89, "rules": 14},
        "observed": None,
        "rules_id": None,
        "duplicate_of": None,
        "received_at": "2026-11-20T09:40:00Z",
        "runs": [{"id": RUN_ID, "number": 12, "state": "success"}],
        "has_more_runs": False,
        "replays": 0,
        **changes,
    }


def a_log_line(seq: int, message: str, **changes: Any) -> dict[str, Any]:
    """Make a log line as the API shows it."""
    return {
        "seq": seq,
        "at": "2026-11-20T09:40:00.300000Z",
        "run_id": RUN_ID,
        "block_id": "load",
        "map_index": None,
        "attempt": 1,
        "level": "info",
        "message": message,
        "fields": {},
        **changes,
    }


def sse(event: str, seq: int | None, **data: Any) -> str:
    """Write one event of a run's stream."""
    content = {"seq": seq, "at": "2026-11-20T09:40:00.500000Z", "run_id": RUN_ID, **data}
    lines = [f"id: {seq}"] if seq is not None else []
    return "\n".join([*lines, f"event: {event}", f"data: {msgspec.json.encode(content).decode()}", "", ""])
