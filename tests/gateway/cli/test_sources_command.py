"""`penstock sources`: what to set up at a sender's side, told without a gateway."""

import msgspec
import pytest

from gateway import sources
from tests.gateway.cli.canned_gateway import CannedGateway, a_schedule
from tests.gateway.cli.conftest import Penstock

NOBODY = {"PENSTOCK_URL": "http://127.0.0.1:1"}


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_all_sources_are_listed_without_a_gateway(penstock: Penstock) -> None:
    rows = [line.split("\t") for line in penstock("sources", "ls", **NOBODY).stdout.splitlines()]

    assert [row[0] for row in rows] == sorted(sources.discover())
    assert all(len(row) == 7 and all(row) for row in rows)
    github = next(row for row in rows if row[0] == "github")
    proof = "HMAC-SHA256 of the body, hex, in X-Hub-Signature-256"
    assert github == ["github", "GitHub", proof, "X-GitHub-Delivery", "ping", "no", "push"]


def test_a_source_is_shown_with_what_to_do_there_and_here(penstock: Penstock) -> None:
    result = penstock("sources", "show", "github", "-o", "table", **NOBODY)

    assert lines(result.stdout) == [
        "source      github",
        "title       GitHub",
        "proof       HMAC-SHA256 of the body, hex, in X-Hub-Signature-256",
        "needs       secrets",
        "dedupe key  X-GitHub-Delivery",
        "handshakes  ping",
        "splits      no",
        "samples     push",
        "",
        "at the sender's side",
        "  Settings > Webhooks > Add webhook: the URL of a token as Payload URL, and the secret of the schedule.",
        "",
        "here",
        "  penstock schedules create --pipeline PIPELINE --name github --source github --secret-stdin < secret.txt",
        "  penstock tokens create ID --label github",
        "  penstock send ID --source github",
    ]
    assert result.stderr == (
        "The URL to paste is http://127.0.0.1:1/hooks/ID/TOKEN, begun as PENSTOCK_PUBLIC_URL says. `penstock tokens "
        "create` prints it with its token, once: tokens are not shown again.\n"
    )


@pytest.mark.parametrize("name", sorted(sources.discover()))
def test_every_source_says_what_it_needs_and_how_to_make_its_schedule(name: str, penstock: Penstock) -> None:
    shown = msgspec.json.decode(penstock("sources", "show", name, "--json", **NOBODY).stdout)

    source = sources.discover()[name]
    assert (shown["name"], shown["title"], shown["samples"]) == (name, source.title, list(source.samples))
    assert shown["setup"]
    assert bool(shown["needs"]) == bool(source.schemes and not source.is_optional)
    create, token, send = shown["commands"]
    assert create.startswith(f"penstock schedules create --pipeline PIPELINE --name {name} --source {name}")
    is_secret_needed = [] not in shown["needs"] and any("secrets" in names for names in shown["needs"])
    assert ("--secret-stdin" in create) == is_secret_needed
    assert (token, send) == (f"penstock tokens create ID --label {name}", f"penstock send ID --source {name}")


def test_for_a_schedule_it_says_what_is_set_and_what_is_missing(server: CannedGateway, penstock: Penstock) -> None:
    config = {"secrets": ["***", "***"], "verify_token": "***", "topics": ["a"]}
    server.answers("GET", "/v1/schedules/7", a_schedule(source_config=config))

    def told(name: str) -> list[str]:
        rows = [line.split("\t") for line in penstock("sources", "show", name, "--schedule", "7").stdout.splitlines()]
        return [text for what, text in rows if what == "schedule"]

    known = ["secrets: 2 set", "mode: strict", "verify_token: ***", 'topics: ["a"]']
    assert told("github") == known
    assert told("discord") == [
        "Its source is github: what Discord sends would be read as that.",
        *known,
        "It lacks public_key: every delivery is refused.",
    ]
    assert "penstock send 7 --source github" in penstock("sources", "show", "github", "--schedule", "7").stdout


def test_an_unknown_source_is_a_usage_error_that_lists_them(penstock: Penstock) -> None:
    result = penstock("sources", "show", "nobody")
    assert (result.exit_code, result.stdout) == (2, "")
    known = ", ".join(sorted(sources.discover()))
    assert f"the sources are {known}." in " ".join(result.stderr.replace("│", "").split())


def test_a_schedule_takes_the_configuration_that_a_source_needs(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("POST", "/v1/schedules", a_schedule(), status=201)
    options = ["--pipeline", "orders", "--name", "meta", "--source", "meta"]
    config = ["--source-config", '{"verify_token": "word"}', "--secret-stdin"]

    result = penstock("schedules", "create", *options, *config, stdin="s3cret\n")

    assert result.exit_code == 0
    body = msgspec.json.decode(server.asked[-1].body)
    assert body["source_config"] == {"verify_token": "word", "secrets": ["s3cret"]}
