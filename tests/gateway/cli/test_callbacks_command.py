"""`penstock callbacks` against canned answers."""

from typing import Any

import msgspec

from tests.gateway.cli.canned_gateway import RUN_ID, CannedGateway
from tests.gateway.cli.conftest import Penstock

CALLBACK_ID = "01980000-0000-7000-8000-000000000009"
ATTEMPT = {
    "at": "2026-11-20T09:40:00Z",
    "status": 503,
    "duration_ms": 42,
    "error": "answered 503",
    "answer": "b\x1b[2Jusy",
}


def a_callback(**changes: Any) -> dict[str, Any]:
    return {
        "id": CALLBACK_ID,
        "run_id": RUN_ID,
        "kind": "webhook",
        "reason": "finished",
        "target": "https://example.org/***",
        "state": "pending",
        "attempts": 1,
        "next_attempt_at": "2026-11-20T09:40:05Z",
        "delivered_at": None,
        "created_at": "2026-11-20T09:40:00Z",
        "last_attempt": ATTEMPT,
    } | changes


def test_callbacks_are_listed_for_programs(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/callbacks", {"items": [a_callback()], "next_cursor": None})
    result = penstock("callbacks", "ls", "--run", "12", "--state", "failed", "--utc")
    assert result.stdout == (
        f"webhook\thttps://example.org/***\tfinished\tpending\t1\t2026-11-20 09:40:00 +00:00\t{RUN_ID}\t{CALLBACK_ID}\n"
    )
    assert server.asked[-1].target == "/v1/callbacks?run_id=12&state=failed&limit=50"


def test_a_callback_is_shown_with_its_attempts_and_resent(server: CannedGateway, penstock: Penstock) -> None:
    shown = a_callback(history=[ATTEMPT])
    server.answers("GET", f"/v1/callbacks/{CALLBACK_ID}", shown)
    server.answers("POST", f"/v1/callbacks/{CALLBACK_ID}/resend", shown, status=202)

    result = penstock("callbacks", "show", CALLBACK_ID, "--utc")
    assert "state\tpending\n" in result.stdout
    assert "attempt\t2026-11-20 09:40:00 +00:00\t503\t42 ms\tanswered 503\tb[2Jusy\n" in result.stdout
    again = penstock("callbacks", "resend", CALLBACK_ID, "--json")
    assert msgspec.json.decode(again.stdout) == shown


def test_the_secrets_are_printed_alone(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/callbacks/signing-secrets", {"items": [{"secret": "whsec_eA=="}], "next_cursor": None})
    result = penstock("callbacks", "secret")
    assert (result.stdout, result.stderr) == ("whsec_eA==\n", "")


def test_without_keys_there_are_no_secrets(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/callbacks/signing-secrets", {"items": [], "next_cursor": None})
    result = penstock("callbacks", "secret")
    assert result.stdout == ""
    assert "set PENSTOCK_SECRET_KEYS" in result.stderr
