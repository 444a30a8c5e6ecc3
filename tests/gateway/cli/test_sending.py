"""`penstock send` against a real gateway: every sample of every source, tampered with, dry, counted, followed."""

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import sources
from schemas.schedules import SourceConfig
from tests.captured_requests import read_config
from tests.gateway.cli.real_gateway import Command, command_of
from tests.system import Json, Penstock

SAMPLES = [(name, sample) for name, source in sorted(sources.discover().items()) for sample in source.samples]
SIGNED_BY_THE_SENDER_ALONE = {"pubsub"} & sources.discover().keys()
SIGNED = sorted({name for name, _ in SAMPLES if sources.discover()[name].schemes} - SIGNED_BY_THE_SENDER_ALONE)
PRIVATE_KEY = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"  # RFC 8032, section 7.1, TEST 1
SECRET = "it is one"


@pytest.fixture
def run(shared: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return command_of(shared, tmp_path)


def config_of(name: str) -> tuple[SourceConfig, str]:
    """Return the configuration of a schedule that verifies this source, and what its sender signs with."""
    config = read_config(name)
    if name == "discord":
        return config, PRIVATE_KEY
    if not config.secrets and sources.discover()[name].schemes and name not in SIGNED_BY_THE_SENDER_ALONE:
        config = msgspec.structs.replace(config, secrets=(SECRET,))
    return config, next(iter(config.secrets), "")


async def a_schedule(shared: Penstock, name: str, **changes: Any) -> tuple[str, str]:
    config, secret = config_of(name)
    configured = msgspec.to_builtins(msgspec.structs.replace(config, **changes))
    return str((await shared.schedule(source=name, source_config=configured))["number"]), secret


async def tokens_of(shared: Penstock, schedule: str) -> list[Json]:
    found: list[Json] = (await shared.client.get(f"/v1/schedules/{schedule}/tokens")).json()["items"]
    return found


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
async def test_every_sample_is_accepted_as_what_its_sender_sends(
    name: str, sample: str, shared: Penstock, run: Command
) -> None:
    is_ours_to_sign = name not in SIGNED_BY_THE_SENDER_ALONE
    schedule, secret = await a_schedule(shared, name, **({} if is_ours_to_sign else {"mode": "observe"}))
    signing = ("--secret", secret) if secret else () if is_ours_to_sign else ("--unsigned",)

    sent = run("send", schedule, "--source", name, "--sample", sample, *signing, "--json")

    assert sent.exit_code == 0, sent.output
    answer = msgspec.json.decode(sent.stdout)
    assert (answer["status"], len(answer["runs"])) == ("accepted", 1)
    event = (await shared.client.get(f"/v1/events/{answer['event_id']}")).json()
    assert (event["source"], event["verdict"]) == (name, "accepted")
    assert (event["observed"] is None) == is_ours_to_sign


@pytest.mark.parametrize("name", SIGNED)
async def test_a_byte_changed_after_signing_is_refused(name: str, shared: Penstock, run: Command) -> None:
    schedule, secret = await a_schedule(shared, name)

    sent = run("send", schedule, "--tamper", "--secret", secret)

    assert (sent.exit_code, sent.stdout) == (4, "")
    assert sent.stderr.startswith("penstock: The ")
    assert secret not in sent.stderr


@pytest.mark.parametrize("name", sorted(SIGNED_BY_THE_SENDER_ALONE))
async def test_what_only_the_sender_can_sign_is_not_made_up(name: str, shared: Penstock, run: Command) -> None:
    schedule, _ = await a_schedule(shared, name)

    sent = run("send", schedule)

    assert (sent.exit_code, sent.stdout) == (5, "")
    assert "--unsigned" in sent.stderr
    assert await tokens_of(shared, schedule) == []


async def test_a_token_is_made_for_the_sending_alone(shared: Penstock, run: Command) -> None:
    schedule, secret = await a_schedule(shared, "github")

    sent, refused = run("send", schedule, "--secret", secret), run("send", schedule, "--secret", "another")

    assert (sent.exit_code, refused.exit_code) == (0, 4)
    assert [(token["label"], token["revoked_at"] is None) for token in await tokens_of(shared, schedule)] == [
        ("penstock send", False),
        ("penstock send", False),
    ]
    assert all(token["expires_at"] for token in await tokens_of(shared, schedule))


async def test_what_was_sent_is_told_with_the_run_that_it_became(shared: Penstock, run: Command) -> None:
    schedule, secret = await a_schedule(shared, "github")

    lines = run("send", schedule, PENSTOCK_SENDER_SECRET=secret).stdout.splitlines()

    assert lines[:2] == ["answer\t202 Accepted", "status\taccepted"]
    assert re.fullmatch(r"event\t[0-9a-f-]{36}", lines[2])
    assert lines[3] == "reason\t"
    assert re.fullmatch(r"run\t#\d+\tqueued\t[0-9a-f-]{36}", lines[4])
    assert len(lines) == 5


@pytest.mark.parametrize("name", ["github", "twilio"])
async def test_a_dry_run_says_what_would_become_of_it_and_keeps_nothing(
    name: str, shared: Penstock, run: Command
) -> None:
    schedule, secret = await a_schedule(shared, name)

    sent = run("send", schedule, "--dry-run", "--secret", secret)

    assert (sent.exit_code, sent.stderr) == (0, "")
    rows = [line.split("\t") for line in sent.stdout.splitlines()]
    assert rows[:2] == [["answer", "200 OK"], ["status", "accepted"]]
    assert ["step", "signature", f"verified as source {name}", ""] in rows
    assert (await shared.client.get("/v1/events", params={"schedule_id": schedule})).json()["items"] == []


async def test_each_of_several_is_a_delivery_of_its_own(shared: Penstock, run: Command) -> None:
    schedule, secret = await a_schedule(shared, "github")

    sent = run("send", schedule, "--count", "3", "--secret", "-", stdin=f"{secret}\n")

    rows = [line.split("\t") for line in sent.stdout.splitlines()]
    assert [row[0] for row in rows] == ["accepted"] * 3
    assert len({row[1] for row in rows}) == 3


async def test_the_same_delivery_id_twice_is_a_duplicate(shared: Penstock, run: Command) -> None:
    schedule, secret = await a_schedule(shared, "github")
    again = ("send", schedule, "-H", "X-GitHub-Delivery: 1", "--count", "2", "--secret", secret, "-o", "jsonl")

    answers = [msgspec.json.decode(line) for line in run(*again).stdout.splitlines()]

    assert [answer["status"] for answer in answers] == ["accepted", "duplicate"]
    assert answers[0]["event_id"] == answers[1]["event_id"]


async def test_a_hook_url_needs_neither_key_nor_schedule(shared: Penstock, run: Command) -> None:
    hook = await shared.hook(source="stripe", source_config={"secrets": ["whsec_1"]})
    bare, _, token = hook.rpartition("/")
    ways: list[tuple[list[str], dict[str, str]]] = [
        ([hook], {}),
        ([bare, "--token", token], {}),
        ([bare], {"PENSTOCK_TOKEN": token}),
        ([bare.rpartition("/")[2]], {"PENSTOCK_TOKEN": token}),
    ]

    for arguments, environ in ways:
        options = ("--source", "stripe", "--secret", "whsec_1")
        sent = run("send", *arguments, *options, PENSTOCK_API_KEY=None, **environ)
        assert (sent.exit_code, sent.stderr) == (0, "")


async def test_a_body_of_ones_own_is_sent_byte_for_byte(shared: Penstock, run: Command, tmp_path: Path) -> None:
    schedule, secret = await a_schedule(shared, "github")
    body = b'\x00\xff{"now": "{now}"}\r\n'
    (tmp_path / "body").write_bytes(body)
    headers = ("-H", "Content-Type: application/octet-stream")

    for data, stdin in (("body", None), ("-", body)):
        sent = run("send", schedule, "-d", data, *headers, "--secret", secret, "--json", stdin=stdin)
        event = msgspec.json.decode(sent.stdout)["event_id"]
        assert (await shared.client.get(f"/v1/events/{event}/body")).content == body


async def test_following_ends_with_the_run(shared: Penstock, run: Command) -> None:
    schedule, secret = await a_schedule(shared, "github")

    followed = run("send", schedule, "--follow", "--timeout", "30", "--secret", secret)
    as_json = run("send", schedule, "--follow", "--secret", secret, "--json")

    assert (followed.exit_code, as_json.exit_code) == (0, 0)
    assert re.search(r" run #\d+: success after ", followed.stdout)
    assert msgspec.json.decode(as_json.stdout)["state"] == "success"


async def test_following_a_run_that_fails_exits_7(shared: Penstock, run: Command) -> None:
    hook = await shared.hook("raises", source="generic")

    assert run("send", hook, "--source", "generic", "--follow").exit_code == 7


@pytest.mark.parametrize("body", ["it's\n\tcaf\u00e9 @x".encode(), b"@\x00\xff'\r\n", b""])
async def test_a_shown_curl_command_sends_the_same_bytes(
    body: bytes, shared: Penstock, run: Command, tmp_path: Path
) -> None:
    hook = await shared.hook(source="github", source_config={"secrets": ["it's"]})
    (tmp_path / "body").write_bytes(body)
    options = ("--source", "github", "--secret", "it's", "-d", "body", "-H", "content-type: text/plain")
    shown = run("send", hook, *options, "--show", "--reveal")

    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", shown.stdout], capture_output=True, text=True, check=True, timeout=30
    )

    answer = msgspec.json.decode(done.stdout)
    assert answer["status"] == "accepted"
    assert (await shared.client.get(f"/v1/events/{answer['event_id']}/body")).content == body
