"""What holds for every source alike, whatever it is and whatever comes: proofs, windows, secrets, and reading."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import sources
from gateway.incoming import Incoming
from gateway.schemes.configured import ConfiguredHmac
from gateway.schemes.ed25519 import Ed25519
from gateway.schemes.hmacs import Hmac
from gateway.schemes.signed import SignedText
from gateway.schemes.twilio import Twilio
from gateway.sources import Facts, Reply, Source
from schemas.errors import BadSignature, Invalid
from schemas.schedules import SourceConfig
from tests.captured_requests import SOURCES, captured, read_config, read_request

ALL = sources.discover()
NOW = 1_773_000_000.25
FRESH = "0b7f5a0e-2f7c-4f0e-9f57-5d1f5e1c0a11"
ONE, OTHER, THIRD = ("whsec_" + letter * 32 for letter in "ABC")  # a key in every form but hex
SHARED_PREFIXES = {"webhook", "github", "key", "cloudevent"}
LATIN_1 = st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=60)  # no server lets a NUL in
BODY_SIGNING = (ConfiguredHmac, Ed25519, Hmac, Twilio)

SECRET_HOLDERS = sorted(
    name for name, source in ALL.items() if any("secrets" in scheme.needs for scheme in source.schemes)
)
SAMPLES = [(name, sample) for name, source in sorted(ALL.items()) for sample in source.samples]
POSTS = [name for name in captured(tampered=False) if read_request(SOURCES / name).method == "POST"]


def sample_of(name: str, sample: str, now: float = NOW) -> Incoming:
    filled = ALL[name].samples[sample].fill(now, FRESH)
    return msgspec.structs.replace(filled, url="https://hooks.example.com/hooks/7/pst_0")


def live(name: str, *secrets: str) -> SourceConfig:
    """Return the source's configuration with other secrets, and no public key beside them."""
    return msgspec.structs.replace(read_config(name), secrets=secrets, public_key="")


def signed(name: str, secret: str, now: float = NOW) -> Incoming:
    sample = sorted(ALL[name].samples)[0]
    return ALL[name].sign(sample_of(name, sample, now), live(name, secret))


def is_verified(source: Source, request: Incoming, config: SourceConfig) -> bool:
    try:
        source.verify(request, config)
    except BadSignature:
        return False
    return True


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_a_sample_that_we_sign_is_verified_and_no_handshake(name: str, sample: str) -> None:
    source, config = ALL[name], read_config(name)
    try:
        request = source.sign(sample_of(name, sample), config)
    except Invalid:
        assert name not in SECRET_HOLDERS, "whoever holds the secret can sign"
        return

    source.verify(request, config)
    facts = source.facts(request, config)

    assert facts.handshake is None
    assert b"{uuid}" not in request.body


@pytest.mark.parametrize("name", SECRET_HOLDERS)
def test_every_live_secret_counts_and_no_other(name: str) -> None:
    source, request = ALL[name], signed(name, OTHER)

    assert is_verified(source, request, live(name, OTHER))
    assert is_verified(source, request, live(name, ONE, OTHER))
    assert is_verified(source, request, live(name, OTHER, ONE))
    assert not is_verified(source, request, live(name, ONE, THIRD))


@pytest.mark.parametrize("name", SECRET_HOLDERS)
def test_what_is_not_signed_is_refused(name: str) -> None:
    sample = sorted(ALL[name].samples)[0]

    assert not is_verified(ALL[name], sample_of(name, sample), live(name, ONE))


@pytest.mark.parametrize("name", SECRET_HOLDERS)
def test_an_empty_header_counts_as_a_missing_one(name: str) -> None:
    request = signed(name, ONE)
    emptied = msgspec.structs.replace(request, headers=dict.fromkeys(request.headers, ""))

    assert not is_verified(ALL[name], emptied, live(name, ONE)) or request.query


@pytest.mark.parametrize("name", sorted(name for name, source in ALL.items() if source.schemes))
def test_without_anything_configured_only_an_optional_source_lets_in(name: str) -> None:
    source = ALL[name]
    requests = [read_request(SOURCES / path) for path in POSTS if path.startswith(f"{name}/")]

    assert {is_verified(source, request, SourceConfig()) for request in requests} == {source.is_optional}


@pytest.mark.parametrize("name", SECRET_HOLDERS)
def test_nothing_can_be_signed_without_a_secret(name: str) -> None:
    request = sample_of(name, sorted(ALL[name].samples)[0])
    if ALL[name].is_optional:
        assert ALL[name].sign(request, SourceConfig()) == request
    else:
        with pytest.raises(Invalid):
            ALL[name].sign(request, SourceConfig())


def texts_with_times() -> Iterator[tuple[str, SignedText]]:
    for name, source in sorted(ALL.items()):
        for scheme in source.schemes:
            text = getattr(scheme, "signed", None)
            if text and ("{timestamp}" in text.template or text.timestamp_field):
                yield name, text


TIMED = sorted({name: text.tolerance_s for name, text in texts_with_times() if name in SECRET_HOLDERS}.items())


@pytest.mark.parametrize(("name", "tolerance"), TIMED)
def test_a_time_counts_within_its_window_in_both_directions(name: str, tolerance: float) -> None:
    source, config, now = ALL[name], live(name, ONE), 1_773_000_000.0
    request = signed(name, ONE, now)

    def at(seconds: float) -> bool:
        return is_verified(source, msgspec.structs.replace(request, now=now + seconds), config)

    assert at(tolerance)
    assert at(-tolerance)
    assert not at(tolerance + 0.5)
    assert not at(-tolerance - 0.5)


def test_the_sources_that_sign_a_time_are_known() -> None:
    assert {"gitlab", "linear", "mlflow", "slack", "standard_webhooks", "stripe", "svix"} <= {name for name, _ in TIMED}


def flips(body: bytes) -> Iterator[bytes]:
    """Flip one bit in about a hundred places, and now and then cut, or add, a byte."""
    for place in range(0, len(body), max(1, len(body) // 100)):
        yield body[:place] + bytes([body[place] ^ 1 << place % 8]) + body[place + 1 :]
    yield body[:-1]
    yield body + b" "
    yield body + b"&a=b"


@pytest.mark.parametrize("path", POSTS)
def test_one_flipped_bit_of_a_signed_body_is_refused(path: str) -> None:
    name = path.partition("/")[0]
    source, config, request = ALL[name], read_config(name), read_request(SOURCES / path)
    scheme = source.scheme(request, config)
    if not isinstance(scheme, BODY_SIGNING):
        assert scheme is None or not isinstance(scheme, Hmac)
        return

    changed = [msgspec.structs.replace(request, body=body) for body in flips(request.body)]
    let_in = [one for one in changed if is_verified(source, one, config)]

    # Of a form the fields are signed by some senders, and a field has more than one spelling: %2B and %2b.
    is_form = request.media_type == "application/x-www-form-urlencoded"
    assert [one.body for one in let_in if not (is_form and one.document == request.document)] == []


@pytest.mark.parametrize("path", captured(tampered=False))
def test_an_id_begins_with_what_kind_it_is(path: str) -> None:
    name, request = path.partition("/")[0], read_request(SOURCES / path)
    found = ALL[name].facts(request, read_config(name)).delivery_id

    assert found is None or found.partition(":")[0] in SHARED_PREFIXES | set(ALL)


def names_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


def values_in(value: Any) -> set[Any]:
    if isinstance(value, dict | list):
        return set().union(*map(values_in, value.values() if isinstance(value, dict) else value))
    return {value}


class Hostile(msgspec.Struct):
    """What a source's sender says, as material for what it never would."""

    requests: list[Incoming]
    headers: list[str]
    queries: list[str]
    names: list[str]
    values: list[Any]


def material(name: str) -> Hostile:
    requests = [read_request(SOURCES / path) for path in captured(tampered=False) if path.startswith(f"{name}/")]
    documents = [request.document for request in requests]
    return Hostile(
        requests=requests,
        headers=sorted({header for request in requests for header in request.headers} | {"content-type", "ce-id"}),
        queries=sorted({parameter for request in requests for parameter in request.query} | {"payload"}),
        names=sorted(set().union(*map(names_in, documents)) | {"type"}),
        values=sorted(set().union(*map(values_in, documents)), key=repr),
    )


def hostile_requests(name: str) -> st.SearchStrategy[Incoming]:
    said = material(name)
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.sampled_from(said.values)
    )
    documents = st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(said.names), inner, max_size=5)
        ),
        max_leaves=12,
    )
    bodies = st.one_of(
        st.sampled_from([request.body for request in said.requests]),
        st.binary(max_size=200),
        documents.map(lambda document: json.dumps(document).encode()),
        st.sampled_from([b"[" * 5000, b'{"a":1e400}', b'{"a":"\\ud800"}', b"\xff", b"payload=%7B", b"1" * 5000]),
    )

    @st.composite
    def build(draw: st.DrawFn) -> Incoming:
        request = draw(st.sampled_from(said.requests))
        headers = draw(st.dictionaries(st.sampled_from(said.headers), LATIN_1, max_size=4))
        query = draw(st.dictionaries(st.sampled_from(said.queries), st.text(max_size=20), max_size=3))
        return Incoming(
            {**request.headers, **headers},
            draw(bodies),
            method=draw(st.sampled_from(["POST", "GET", "HEAD", "OPTIONS", "PUT"])),
            url=request.url + draw(LATIN_1),
            query={**request.query, **query},
            now=request.now,
            documents=request.documents,
        )

    return build()


QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", sorted(ALL))
def test_whatever_comes_is_verified_or_a_bad_signature_and_nothing_else(name: str) -> None:
    source, config = ALL[name], read_config(name)

    @QUICK
    @given(hostile_requests(name))
    def judge(request: Incoming) -> None:
        try:
            scheme = source.scheme(request, config)
            if scheme:
                scheme.wants(request, config)
        except BadSignature:
            pass
        is_verified(source, request, config)

    judge()


@pytest.mark.parametrize("name", sorted(ALL))
def test_whatever_comes_can_be_read_split_and_greeted(name: str) -> None:
    source, config = ALL[name], read_config(name)

    @QUICK
    @given(hostile_requests(name))
    def judge(request: Incoming) -> None:
        must_be_storable(source.facts(request, config))
        for item in source.split(request) if source.split else ():
            assert item.id is None or item.id
            msgspec.json.encode(item.payload)
        try:
            answer = source.greet(request, config) if source.greet else None
        except BadSignature:
            return
        assert isinstance(answer, Reply | Incoming | None)

    judge()


def must_be_storable(facts: Facts) -> None:
    assert facts.delivery_id is None or facts.delivery_id
    assert facts.event_type is None or "\0" not in facts.event_type


HEADER_NAMES = st.sampled_from(
    ["content-type", "ce-id", "ce-source", "ce-type", "webhook-id", "x-github-delivery", "x-github-event", "x-other"]
)


@given(st.sampled_from(sorted(ALL)), st.dictionaries(HEADER_NAMES, LATIN_1), st.binary())
def test_headers_of_other_senders_can_be_read_too(name: str, headers: Mapping[str, str], body: bytes) -> None:
    must_be_storable(ALL[name].facts(Incoming(headers, body), read_config(name)))
