"""Who sends: every source verifies what was captured from its sender, and refuses everything else in one way."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import sources
from gateway.sources import Incoming, Source
from schemas.errors import BadSignature
from schemas.schedules import SourceConfig
from tests.captured_requests import SOURCES, captured, read_config, read_expected, read_request, show

SECRET = "It's a Secret to Everybody"
HELLO = b"Hello, World!"
HELLO_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def source_of(name: str) -> Source:
    return sources.discover()[name.partition("/")[0]]


def github(headers: Mapping[str, str], body: bytes, *secrets: str) -> None:
    sources.discover()["github"].verify(Incoming(headers, body), SourceConfig(secrets=secrets or (SECRET,)))


@pytest.mark.parametrize("name", captured(tampered=False))
def test_a_captured_request_is_verified_and_read(name: str) -> None:
    source, request = source_of(name), read_request(SOURCES / name)

    assert int(request.headers.get("content-length", "0")) == len(request.body)
    assert show(source.name, request) == read_expected(SOURCES / name)


@pytest.mark.parametrize("name", captured(tampered=True))
def test_a_request_that_was_tampered_with_is_refused(name: str) -> None:
    with pytest.raises(BadSignature):
        show(source_of(name).name, read_request(SOURCES / name))


def test_the_vector_of_githubs_documentation_holds() -> None:
    github({"x-hub-signature-256": HELLO_SIGNATURE}, HELLO)


def test_every_live_secret_counts_so_that_a_sender_can_rotate() -> None:
    github({"x-hub-signature-256": HELLO_SIGNATURE}, HELLO, "the next one", SECRET)
    github({"x-hub-signature-256": HELLO_SIGNATURE}, HELLO, SECRET, "the next one")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "The header X-Hub-Signature-256 is missing."),
        ({"x-hub-signature-256": ""}, "The header X-Hub-Signature-256 is missing."),
        ({"x-hub-signature": HELLO_SIGNATURE}, "The header X-Hub-Signature-256 is missing."),
        ({"x-hub-signature-256": HELLO_SIGNATURE[7:]}, "The header X-Hub-Signature-256 does not begin with 'sha256='."),
        ({"x-hub-signature-256": "sha1=" + HELLO_SIGNATURE[7:]}, "does not begin with"),
        ({"x-hub-signature-256": "sha256="}, "does not match"),
        ({"x-hub-signature-256": HELLO_SIGNATURE[:-1]}, "does not match"),
        ({"x-hub-signature-256": HELLO_SIGNATURE + "0"}, "does not match"),
        ({"x-hub-signature-256": HELLO_SIGNATURE[:-1] + "é"}, "does not match"),
    ],
)
def test_what_is_wrong_with_a_signature_is_said_and_the_right_one_is_not(headers: dict[str, str], message: str) -> None:
    with pytest.raises(BadSignature) as refused:
        github(headers, HELLO)

    assert message in refused.value.message
    assert HELLO_SIGNATURE[7:] not in refused.value.message


def test_an_older_secret_is_refused() -> None:
    with pytest.raises(BadSignature):
        github({"x-hub-signature-256": HELLO_SIGNATURE}, HELLO, "an older one")


def test_a_source_that_signs_refuses_everything_when_no_secret_is_set() -> None:
    request = Incoming({"x-hub-signature-256": HELLO_SIGNATURE}, HELLO)

    with pytest.raises(BadSignature):
        sources.discover()["github"].verify(request, SourceConfig())


def verified(headers: Mapping[str, str], body: bytes) -> bool:
    try:
        github(headers, body)
    except BadSignature:
        return False
    return True


LATIN_1 = st.text(st.characters(max_codepoint=255))


@given(LATIN_1 | LATIN_1.map(lambda text: "sha256=" + text))
def test_any_signature_but_the_right_one_is_a_bad_signature(signature: str) -> None:
    assert not verified({"x-hub-signature-256": signature}, HELLO)


@given(st.integers(0, len(HELLO_SIGNATURE) - 1), st.characters(max_codepoint=255))
def test_a_signature_with_one_character_changed_is_a_bad_signature(position: int, character: str) -> None:
    changed = HELLO_SIGNATURE[:position] + character + HELLO_SIGNATURE[position + 1 :]

    assert verified({"x-hub-signature-256": changed}, HELLO) == (changed.lower() == HELLO_SIGNATURE)


@given(st.binary())
def test_any_other_body_is_a_bad_signature(body: bytes) -> None:
    assert verified({"x-hub-signature-256": HELLO_SIGNATURE}, body) == (body == HELLO)


@pytest.mark.parametrize("token", ["", "anything"])
def test_meta_is_refused_while_no_verify_token_is_set(token: str) -> None:
    greet = sources.discover()["meta"].greet
    query = {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": token}

    assert greet is not None
    with pytest.raises(BadSignature):
        greet(Incoming({}, b"", method="GET", query=query), SourceConfig(secrets=(SECRET,)))


@pytest.mark.parametrize("name", ["gitea", "forgejo", "meta"])
def test_whatever_else_is_not_a_post_is_not_taken(name: str) -> None:
    greet = sources.discover()[name].greet

    assert greet is not None
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
        assert greet(Incoming({}, b"", method=method), read_config(name)) is None
    assert greet(Incoming({}, b"", method="HEAD", query={"payload": "{}"}), read_config(name)) is None


def test_gitlab_does_not_fall_back_from_a_wrong_signature_to_its_token() -> None:
    token = {"x-gitlab-token": "plain"}
    config = SourceConfig(secrets=("plain",))

    sources.discover()["gitlab"].verify(Incoming(token, b"{}"), config)
    for signature in ("v1,AAAA", "nonsense"):
        with pytest.raises(BadSignature):
            sources.discover()["gitlab"].verify(Incoming(token | {"webhook-signature": signature}, b"{}"), config)


def test_gitlabs_recursive_webhooks_are_different_deliveries() -> None:
    shared = {"x-gitlab-event-uuid": "13792a34", "x-gitlab-webhook-uuid": "f81d4fae"}
    read = sources.discover()["gitlab"].read
    first, again, recursive = (read(Incoming(shared, body)).delivery_id for body in (b"{}", b"{}", b'{"a": 1}'))

    assert first == again != recursive
