"""`penstock send` against canned answers: whole outputs, where secrets come from, what is never shown."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.gateway.cli.canned_gateway import EVENT_ID, RUN_ID, SCHEDULE_ID, TOKEN_ID, CannedGateway, a_schedule
from tests.gateway.cli.conftest import Penstock

SECRET, TOKEN = "its secret", "pst_made"
RUN = {"id": RUN_ID, "number": 12, "state": "queued", "url": "u", "stream_url": "s"}
ACCEPTED = {"event_id": EVENT_ID, "status": "accepted", "runs": [RUN]}
FIXED = ("-H", "X-GitHub-Delivery: 1")


@pytest.fixture
def hook(server: CannedGateway) -> str:
    """A schedule for which a token can be made, and where it takes deliveries."""
    url = f"{server.url}/hooks/7/{TOKEN}"
    made = {"id": TOKEN_ID, "token": TOKEN, "url": url, "label": "penstock send", "expires_at": None}
    server.answers("GET", "/v1/schedules/7", a_schedule())
    server.answers("POST", f"/v1/schedules/{SCHEDULE_ID}/tokens", made, status=201)
    server.answers("DELETE", f"/v1/tokens/{TOKEN_ID}", status=204)
    return f"/hooks/7/{TOKEN}"


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_a_delivery_is_told_with_its_event_and_its_runs(server: CannedGateway, penstock: Penstock, hook: str) -> None:
    server.answers("POST", hook, ACCEPTED, status=202)

    result = penstock("send", "7", "--secret", SECRET, "-o", "table")

    assert (result.exit_code, result.stderr) == (0, "")
    assert lines(result.stdout) == [
        "answer  202 Accepted",
        "status  accepted",
        f"event   {EVENT_ID}",
        "",
        "run  state   id",
        f"#12  queued  {RUN_ID}",
    ]


def test_the_token_is_made_for_minutes_and_revoked(server: CannedGateway, penstock: Penstock, hook: str) -> None:
    server.refuses("POST", hook, 401, detail="The signature does not match.")

    result = penstock("send", "7", "--secret", SECRET)

    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == "penstock: The signature does not match.\n"
    assert [(asked.method, asked.target) for asked in server.asked] == [
        ("GET", "/v1/schedules/7"),
        ("POST", f"/v1/schedules/{SCHEDULE_ID}/tokens"),
        ("POST", hook),
        ("DELETE", f"/v1/tokens/{TOKEN_ID}"),
    ]
    assert msgspec.json.decode(server.asked[1].body)["label"] == "penstock send"


def test_a_delivery_never_carries_the_api_key(server: CannedGateway, penstock: Penstock, hook: str) -> None:
    server.answers("POST", hook, ACCEPTED, status=202)
    penstock("send", "7", "--secret", SECRET)
    assert "psk_test" not in str(server.asked[2])


def test_several_are_listed_until_one_is_refused(server: CannedGateway, penstock: Penstock, hook: str) -> None:
    server.answers("POST", hook, ACCEPTED, status=202)
    server.answers("POST", hook, {"event_id": EVENT_ID, "status": "duplicate", "runs": [RUN], "reason": "other body"})
    server.refuses("POST", hook, 503, detail="Try again.")

    result = penstock("send", "7", "--secret", SECRET, "--count", "5")

    assert (result.exit_code, result.stderr) == (6, "penstock: Try again.\n")
    assert result.stdout == f"accepted\t{EVENT_ID}\t#12\t\nduplicate\t{EVENT_ID}\t#12\tother body\n"
    assert len([asked for asked in server.asked if asked.target == hook]) == 3


def test_an_answer_in_the_senders_own_form_is_shown_as_it_is(
    server: CannedGateway, penstock: Penstock, hook: str
) -> None:
    server.answers("POST", hook, b"challenge\x1b[2J")
    plain, as_json = (penstock("send", "7", "--secret", SECRET, *form) for form in ((), ("--json",)))
    assert plain.stdout == "answer\t200 OK\nbody\tchallenge[2J\n"
    assert msgspec.json.decode(as_json.stdout) == {"status_code": 200, "body": "challenge\x1b[2J"}


def test_a_dry_run_is_the_steps_of_the_gateway(server: CannedGateway, penstock: Penstock, hook: str) -> None:
    parts = [{"text": "body.ref", "line": 1, "column": 1, "value": "main"}]
    steps = [{"step": "token", "finding": "it fires"}, {"step": "filter", "finding": "true", "parts": parts}]
    answer = {"event_id": None, "status": "accepted", "runs": [], "dry_run": True, "steps": steps}
    server.answers("POST", f"{hook}?dry_run=1", answer)

    result = penstock("send", "7", "--secret", SECRET, "--dry-run", "-o", "table")

    assert lines(result.stdout) == [
        "answer  200 OK",
        "status  accepted",
        "",
        "step    finding     value",
        "token   it fires",
        "filter  true",
        '          body.ref  "main"',
    ]


@pytest.mark.parametrize(
    ("options", "stdin", "environ"),
    [
        (["--secret", SECRET], None, {}),
        (["--secret", "-"], f"{SECRET}\n", {}),
        (["--secret", "@secret.txt"], None, {"PENSTOCK_SENDER_SECRET": "another"}),
        ([], None, {"PENSTOCK_SENDER_SECRET": SECRET}),
        ([], None, {"PENSTOCK_SENDER_SECRET_FILE": "secret.txt"}),
    ],
)
def test_a_secret_comes_from_option_file_stdin_or_environment(
    options: list[str], stdin: str | None, environ: dict[str, str], penstock: Penstock, hook: str, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text(f"{SECRET}\n")
    shown = penstock("send", "7", *options, *FIXED, "--show", "--json", stdin=stdin, **environ)
    expected = penstock("send", "7", "--secret", SECRET, *FIXED, "--show", "--json")
    assert shown.exit_code == 0
    assert msgspec.json.decode(shown.stdout)["headers"]["x-hub-signature-256"].startswith("sha256=")
    assert shown.stdout == expected.stdout


def test_without_a_secret_it_says_why_it_cannot_be_read(server: CannedGateway, penstock: Penstock, hook: str) -> None:
    result = penstock("send", "7")
    assert (result.exit_code, result.stdout, len(server.asked)) == (2, "", 1)
    assert "masks the secrets" in " ".join(result.stderr.split())
    assert "PENSTOCK_SENDER_SECRET" in result.stderr


def test_what_a_schedule_has_no_secret_for_cannot_be_signed(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/schedules/8", a_schedule(source_config={}))
    result = penstock("send", "8")
    assert (result.exit_code, result.stdout, len(server.asked)) == (2, "", 1)
    assert "GitHub signs what it sends, which takes secrets" in " ".join(result.stderr.replace("│", "").split())


def test_to_send_as_somebody_else_is_remarked(server: CannedGateway, penstock: Penstock, hook: str) -> None:
    server.answers("POST", hook, ACCEPTED, status=202)
    result = penstock("send", "7", "--source", "gitlab", "--secret", SECRET)
    assert (result.exit_code, result.stderr) == (0, "Schedule 7 is of source github, and reads what is sent as that.\n")


def test_a_schedule_without_secrets_needs_none(server: CannedGateway, penstock: Penstock, hook: str) -> None:
    server.answers("GET", "/v1/schedules/8", a_schedule(source="generic", source_config={}))
    result = penstock("send", "8", "--show", "--raw", "-H", "Idempotency-Key: 1", "-H", "X-Two:2")
    host = server.url.removeprefix("http://")
    assert lines(result.stdout) == [
        "POST /hooks/8/TOKEN HTTP/1.1",
        f"host: {host}",
        "user-agent: penstock send",
        "content-type: application/json",
        "idempotency-key: 1",
        "x-two: 2",
        "content-length: 32",
        "",
        '{"order": 4711, "state": "paid"}',
    ]


def test_what_is_shown_masks_token_and_secret_unless_they_are_asked_for(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "body").write_text("it's")
    url = "https://hooks.example.org/in/hooks/7/pst_secret"
    options = (
        "--source",
        "telegram",
        "--secret",
        "shared one",
        "-d",
        "body",
        "--show",
        "-H",
        "content-type:text/plain",
    )

    masked, revealed = penstock("send", url, *options), penstock("send", url, *options, "--reveal")

    assert masked.stderr == "Secrets are masked; --reveal shows them.\n"
    assert masked.stdout == (
        "curl -X POST 'https://hooks.example.org/in/hooks/7/***' \\\n"
        "  -H 'content-type: text/plain' \\\n"
        "  -H 'user-agent: penstock send' \\\n"
        "  -H 'x-telegram-bot-api-secret-token: ***' \\\n"
        "  --data-raw 'it'\"'\"'s'\n"
    )
    assert revealed.stderr == ""
    assert "hooks/7/pst_secret \\\n" in revealed.stdout
    assert "-token: shared one'" in revealed.stdout


def test_the_url_that_is_signed_is_the_one_that_is_called(penstock: Penstock) -> None:
    url = "https://hooks.example.org/hooks/7/pst_x"
    options = ("--source", "twilio", "--secret", "12345", "--show", "--json", "-H", "i-twilio-idempotency-token:1")

    def signature(*more: str) -> Any:
        shown = msgspec.json.decode(penstock("send", *more, *options).stdout)
        return shown["headers"]["x-twilio-signature"]

    assert signature(url) != signature(url, "--dry-run") != signature(url.replace("7", "8"), "--dry-run")
    assert signature(url.rpartition("/")[0], "--token", "pst_x") == signature(url)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["https://x.example.org/hooks/7/pst_x"], "add --source"),
        (["https://x.example.org/hooks/7", "--source", "generic"], "holds no token"),
        (["https://x.example.org/v1/runs", "--source", "generic"], "must be that of a token"),
        (["https://x.example.org/hooks/7/pst_x?a=b", "--source", "generic"], "must be that of a token"),
        (["7", "--source", "nobody", "--token", "pst_x"], "There is no source 'nobody'; the sources are "),
        (["https://x.example.org/hooks/7/pst_x", "--source", "discord"], "which takes public_key"),
        (["https://x.example.org/hooks/7/pst_x", "--source", "hmac"], "which takes signature"),
        (["7", "--sample", "pull"], "GitHub has no sample 'pull'; its samples: push"),
        (["7", "-H", "no colon"], "'no colon' is not NAME:VALUE"),
        (["7", "-H", "a b: c"], "'a b: c' is not NAME:VALUE"),
        (["7", "-H", "a: b\r\nc: d"], "is not NAME:VALUE"),
        (["7", "-d", "none"], "none cannot be read"),
        (["7", "-d", "-", "--secret", "-"], "cannot both read standard input"),
        (["7", "--secret", ""], "It is empty"),
        (["7", "--timeout", "3"], "--timeout needs --follow"),
        (["7", "--raw"], "need --show"),
        (["7", "--follow", "--dry-run"], "--follow needs a delivery"),
        (["7", "--tamper", "--unsigned"], "without --unsigned"),
        (["7", "--source-config", '{"x": 1}'], "unknown field `x`"),
        (["7", "--source", "generic", "--tamper"], "nothing proves this request"),
        (["7", "--count", "0"], "not in the range"),
    ],
)
def test_wrong_usage_exits_2_and_sends_nothing(
    arguments: list[str], message: str, server: CannedGateway, penstock: Penstock, hook: str
) -> None:
    result = penstock("send", *arguments, stdin=SECRET, PENSTOCK_SENDER_SECRET=SECRET)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.replace("│", "").split())
    assert all(asked.method == "GET" for asked in server.asked)
