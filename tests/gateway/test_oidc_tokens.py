"""Google's tokens: only one for us, by the issuer's key, about the account that we expect, and in its time."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import sources
from gateway.sources import Incoming
from schemas.errors import BadSignature, Invalid
from schemas.schedules import SourceConfig
from tests.rsa_senders import AUDIENCE, EMAIL, Google, rsa_key

PUBSUB = sources.discover()["pubsub"]
GOOGLE = Google()
CERTS = "https://www.googleapis.com/oauth2/v3/certs"
CONFIG = SourceConfig(audience=AUDIENCE, email=EMAIL)
NO_JWT = "The token in the header Authorization is not a JWT."
NO_BEARER = "There is no JWT in the header Authorization, after the word Bearer."
NOT_RS256 = "The token is not signed with RS256 and a key that has an id."
NOT_ITS_KEY = "The token is signed with a key that its issuer does not have."
NOT_MATCHING = "The signature of the token does not match it."
NOT_OUR_EMAIL = "The e-mail address of the token is not this schedule's, or was not verified."


def verdict(
    token: str,
    *,
    config: SourceConfig = CONFIG,
    jwks: bytes = GOOGLE.jwks,
    url: str = CERTS,
    header: str = "Bearer {}",
    now: float = 0.0,
) -> str | None:
    """Say what is wrong, as the gateway would find it out: what is wanted is fetched before the rest is looked at."""
    incoming = Incoming({"authorization": header.format(token)}, b"{}", now=now or time.time(), documents={url: jwks})
    try:
        scheme = PUBSUB.scheme(incoming, config)
        assert scheme is not None
        assert [wanted.partition("#")[0] for wanted in scheme.wants(incoming, config)] == [CERTS]
        PUBSUB.verify(incoming, config)
    except BadSignature as error:
        return error.message
    return None


def part(value: Any) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed_by_google(claims: Any, **header: Any) -> str:
    """Sign anything as Google would sign its claims."""
    head = {"alg": "RS256", "kid": GOOGLE.key_id} | header
    signed = f"{part(head)}.{part(claims)}"
    signature = GOOGLE.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{part(signature)}"


def test_googles_token_for_us_is_believed() -> None:
    assert verdict(GOOGLE.token()) is None
    assert verdict(GOOGLE.token(iss="accounts.google.com")) is None
    assert verdict(GOOGLE.token(aud=["https://other.example.com", AUDIENCE])) is None
    assert verdict(GOOGLE.token(), header="bearer {}") is None


def test_the_key_that_is_wanted_is_named_behind_the_url_of_the_set() -> None:
    incoming = Incoming({"authorization": f"Bearer {GOOGLE.token()}"}, b"")

    assert PUBSUB.schemes[0].wants(incoming, CONFIG) == (f"{CERTS}#{GOOGLE.key_id}",)


def test_another_set_of_keys_can_be_named() -> None:
    other = Google("local-key")
    config = SourceConfig(audience=AUDIENCE, email=EMAIL, jwks_url="http://127.0.0.1:9000/keys#fragment")
    url = "http://127.0.0.1:9000/keys"
    incoming = Incoming({"authorization": f"Bearer {other.token()}"}, b"", now=time.time(), documents={url: other.jwks})

    assert PUBSUB.schemes[0].wants(incoming, config) == (f"{url}#local-key",)
    PUBSUB.verify(incoming, config)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"iss": "https://evil.example.com"}, "The issuer (iss) of the token is not one of this source's."),
        ({"iss": "https://accounts.google.com/"}, "The issuer (iss) of the token is not one of this source's."),
        ({"aud": AUDIENCE + "/"}, "The audience (aud) of the token is not this schedule's."),
        ({"aud": []}, "The audience (aud) of the token is not this schedule's."),
        ({"aud": ["https://other.example.com"]}, "The audience (aud) of the token is not this schedule's."),
        ({"email": "evil@evil-project.iam.gserviceaccount.com"}, NOT_OUR_EMAIL),
        ({"email": EMAIL.upper()}, NOT_OUR_EMAIL),
        ({"email_verified": False}, NOT_OUR_EMAIL),
        ({"exp": int(time.time()) - 61}, "The token has expired."),
        ({"iat": int(time.time()) + 3600}, "The token is of the future."),
        ({"nbf": int(time.time()) + 3600}, "The token is of the future."),
        ({"iss": None}, NO_JWT),
        ({"aud": None}, NO_JWT),
        ({"email": None}, NO_JWT),
        ({"email_verified": None}, NO_JWT),
        ({"email_verified": "true"}, NO_JWT),
        ({"exp": None}, NO_JWT),
        ({"iat": None}, NO_JWT),
        ({"aud": {"a": AUDIENCE}}, NO_JWT),
    ],
)
def test_every_claim_counts(changed: dict[str, Any], message: str) -> None:
    assert verdict(signed_by_google(GOOGLE.claims(**changed))) == message


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (1_000_000 - 61, "The token is of the future."),
        (1_000_000 - 60, None),
        (1_003_600 + 60, None),
        (1_003_600 + 61, "The token has expired."),
    ],
)
def test_clocks_may_differ_by_a_minute(now: float, message: str | None) -> None:
    assert verdict(GOOGLE.token(iat=1_000_000, exp=1_003_600), now=now) == message


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS256"},
        {"alg": "RS512"},
        {"alg": "PS256"},
        {"alg": "rs256"},
        {"alg": ""},
        {"kid": ""},
        {"kid": "../x"},
        {"kid": "x" * 201},
        {"kid": "a\nb"},
        {"crit": ["exp"]},
    ],
)
def test_only_rs256_with_a_named_key_is_looked_at(header: dict[str, Any]) -> None:
    assert verdict(signed_by_google(GOOGLE.claims(), **header)) == NOT_RS256


def test_a_token_without_a_signature_is_refused() -> None:
    head, claims, _ = GOOGLE.token().split(".")

    assert verdict(f"{head}.{claims}.") == NO_JWT
    assert verdict(f"{part({'alg': 'none', 'kid': GOOGLE.key_id})}.{claims}.") == NO_JWT
    assert verdict(f"{head}.{claims}") == NO_BEARER


@pytest.mark.parametrize("alg", ["HS256", "RS256"])
def test_the_public_key_is_no_secret_to_sign_with(alg: str) -> None:
    public = GOOGLE.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{part({'alg': alg, 'kid': GOOGLE.key_id})}.{part(GOOGLE.claims())}"
    forged = f"{signed}.{part(hmac.digest(public, signed.encode(), hashlib.sha256))}"

    assert verdict(forged) == (NOT_RS256 if alg == "HS256" else NOT_MATCHING)


def test_somebody_elses_key_is_refused_under_either_id() -> None:
    assert verdict(Google("another").token()) == NOT_ITS_KEY
    assert verdict(Google(GOOGLE.key_id).token()) == NOT_MATCHING


def test_changed_claims_are_refused() -> None:
    head, _, signature = GOOGLE.token().split(".")

    assert verdict(f"{head}.{part(GOOGLE.claims(email='evil@example.com'))}.{signature}") == NOT_MATCHING


@pytest.mark.parametrize(
    "token",
    [
        *("", ".", "..", "a.b.c", "a.b.c.d", "é.é.é", "====", "e30.e30.e30", "A" * 9000),
        *(f"{part([])}.{part({})}.AA", f"{part(b'[' * 5000)}.e30.AA", f"{part(bytes([255]))}.e30.AA"),
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert verdict(token) in {NO_JWT, NO_BEARER}


@pytest.mark.parametrize("header", ["", "Bearer", "{}", "Basic {}", "Token {}"])
def test_the_token_must_come_as_a_bearer(header: str) -> None:
    assert verdict(GOOGLE.token(), header=header) == NO_BEARER


def test_a_second_spelling_of_the_same_signature_is_refused() -> None:
    """The last character of 256 bytes in base64 has four bits that mean nothing."""
    token = GOOGLE.token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(token[-1]) ^ 1]

    assert verdict(token[:-1] + other) == NO_JWT
    assert verdict(token + "==") == NO_JWT


EC_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
SMALL_KEY = rsa_key(1024).public_key()


def key_set(**changed: Any) -> bytes:
    entry = json.loads(GOOGLE.jwks)["keys"][0] | changed
    return json.dumps({"keys": [{name: value for name, value in entry.items() if value is not None}]}).encode()


@pytest.mark.parametrize(
    ("jwks", "message"),
    [
        (b"", "The key set that was fetched to verify this is not a JWKS."),
        (b"<html>", "The key set that was fetched to verify this is not a JWKS."),
        (b"{}", "The key set that was fetched to verify this is not a JWKS."),
        (b'{"keys": [1]}', "The key set that was fetched to verify this is not a JWKS."),
        (b'{"keys": []}', NOT_ITS_KEY),
        (key_set(kty="oct"), NOT_ITS_KEY),
        (key_set(kty="EC"), NOT_ITS_KEY),
        (key_set(use="enc"), NOT_ITS_KEY),
        (key_set(alg="RS512"), NOT_ITS_KEY),
        (key_set(n=""), NOT_ITS_KEY),
        (key_set(n="!"), NOT_ITS_KEY),
        (key_set(n="AQAB"), NOT_ITS_KEY),
        (key_set(e="AA"), NOT_ITS_KEY),
        (key_set(e="Ag"), NOT_ITS_KEY),
        (key_set(**jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY, as_dict=True)), NOT_ITS_KEY),
        (key_set(**jwt.algorithms.RSAAlgorithm.to_jwk(SMALL_KEY, as_dict=True)), NOT_ITS_KEY),
    ],
)
def test_only_rsa_keys_for_signatures_of_a_sane_size_are_taken_from_a_set(jwks: bytes, message: str) -> None:
    assert verdict(GOOGLE.token(), jwks=jwks) == message


def test_what_a_set_need_not_say_may_be_missing() -> None:
    assert verdict(GOOGLE.token(), jwks=key_set(use=None, alg=None)) is None


def test_without_the_set_nothing_is_believed() -> None:
    assert verdict(GOOGLE.token(), url="https://elsewhere.example.com/") == "The issuer's key set was not fetched."


@pytest.mark.parametrize("config", [SourceConfig(), SourceConfig(audience=AUDIENCE), SourceConfig(email=EMAIL)])
def test_audience_and_address_are_both_needed_since_anybody_can_get_a_token_of_google(config: SourceConfig) -> None:
    incoming = Incoming(
        {"authorization": f"Bearer {GOOGLE.token()}"}, b"", now=time.time(), documents={CERTS: GOOGLE.jwks}
    )
    with pytest.raises(BadSignature):
        PUBSUB.verify(incoming, config)


def test_a_token_cannot_be_made_here() -> None:
    with pytest.raises(Invalid):
        PUBSUB.schemes[0].sign(Incoming({}, b""), CONFIG)


TOKEN = GOOGLE.token()


@settings(max_examples=300)
@given(st.integers(0, len(TOKEN) - 1), st.characters(max_codepoint=255))
def test_any_changed_character_is_refused(position: int, character: str) -> None:
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]

    assert (verdict(changed) is None) == (changed == TOKEN)


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header_but_a_token_is_one_bad_signature(header: str) -> None:
    incoming = Incoming({"authorization": header}, b"", documents={CERTS: GOOGLE.jwks})

    with pytest.raises(BadSignature):
        PUBSUB.verify(incoming, CONFIG)
