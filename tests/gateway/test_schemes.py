"""The proofs themselves: what exactly is signed, which header says what, which keys count, and what is refused."""

import base64
import hashlib
import hmac
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.incoming import Incoming, text_at
from gateway.schemes.configured import ConfiguredHmac, check_signature
from gateway.schemes.ed25519 import Ed25519, check_public_key
from gateway.schemes.hmacs import Hmac, check_keys
from gateway.schemes.shared import SharedSecret
from gateway.schemes.signed import MOST_SIGNATURES, SignedText
from gateway.schemes.twilio import Twilio
from schemas.errors import BadSignature, Invalid
from schemas.schedules import SignatureConfig, SourceConfig
from tests.ed25519_keys import OTHER_PUBLIC, PUBLIC, SEED

NOW = 1_773_000_000
BODY = b'{"a": 1}'
SECRETS = SourceConfig(secrets=("s3cret",))
STANDARD = SignedText(template="{id}.{timestamp}.{body}", id_header="webhook-id", timestamp_header="webhook-timestamp")
STRIPE = Hmac(
    header="Stripe-Signature",
    prefix="v1=",
    separator=",",
    signed=SignedText(template="{timestamp}.{body}", timestamp_part="t="),
)
DISCORD = Ed25519(
    header="X-Signature-Ed25519",
    signed=SignedText(template="{timestamp}{body}", timestamp_header="X-Signature-Timestamp"),
)


def code(text: bytes, key: bytes = b"s3cret", algorithm: str = "sha256") -> str:
    return hmac.new(key, text, algorithm).hexdigest()


def refusal(scheme: Any, incoming: Incoming, config: SourceConfig = SECRETS) -> str | None:
    """Return why a request is refused, None when it is not."""
    try:
        scheme.verify(incoming, config)
    except BadSignature as error:
        return error.message
    return None


def stripe(header: str, body: bytes = BODY) -> str | None:
    return refusal(STRIPE, Incoming({"stripe-signature": header}, body, now=NOW))


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_every_algorithm_in_either_encoding(algorithm: Any, encoding: Any) -> None:
    digest = hmac.new(b"s3cret", BODY, algorithm)
    right = digest.hexdigest() if encoding == "hex" else base64.b64encode(digest.digest()).decode()
    scheme = Hmac(header="X-S", prefix=f"{algorithm}=", algorithm=algorithm, encoding=encoding)

    assert refusal(scheme, Incoming({"x-s": f"{algorithm}={right}"}, BODY)) is None
    assert refusal(scheme, Incoming({"x-s": f"{algorithm}={right}"}, BODY + b" ")) is not None
    assert scheme.sign(Incoming({}, BODY), SECRETS).headers == {"x-s": f"{algorithm}={right}"}


@pytest.mark.parametrize("upper", [False, True])
def test_the_case_of_hex_does_not_matter_and_that_of_base64_does(upper: bool) -> None:
    digest = hmac.new(b"s3cret", BODY, "sha256").digest()

    def sent(signature: str) -> Incoming:
        return Incoming({"x-s": signature.upper() if upper else signature}, BODY)

    assert refusal(Hmac(header="X-S"), sent(digest.hex())) is None
    assert (
        refusal(Hmac(header="X-S", encoding="base64"), sent(base64.b64encode(digest).decode())) is None
    ) is not upper


def test_any_of_several_signatures_may_match_and_other_versions_do_not_count() -> None:
    right, test_mode = code(b"%d." % NOW + BODY), code(b"%d." % NOW + BODY)

    assert stripe(f"t={NOW},v1={right}") is None
    assert stripe(f"t={NOW}, v1={'0' * 64}, v1={right}") is None
    assert stripe(f"v1={right},t={NOW}") is None
    assert stripe(f"t={NOW},v0={test_mode}") == "The header Stripe-Signature holds no signature that begins with 'v1='."
    assert "does not match" in str(stripe(f"t={NOW},v1={'0' * 64},v0={right}"))


def test_so_many_signatures_that_they_cost_us_something_are_not_tried() -> None:
    wrong, right = f"v1={'0' * 64}", f"v1={code(b'%d.' % NOW + BODY)}"

    assert stripe(",".join([f"t={NOW}", *[wrong] * (MOST_SIGNATURES - 1), right])) is None
    assert "more than" in str(stripe(",".join([f"t={NOW}", *[wrong] * MOST_SIGNATURES, right])))


@pytest.mark.parametrize(
    ("timestamp", "message"),
    [
        ("", "There is no time in the header Stripe-Signature."),
        ("soon", "is not a time"),
        (f"{NOW}.0", "is not a time"),
        (f" {NOW}", "is not a time"),
        (f"+{NOW}", "is not a time"),
        (f"0{NOW}", "is not a time"),
        ("1_773_000_000", "is not a time"),
        ("²" * 10, "is not a time"),
        ("٣" * 10, "is not a time"),
        (str(NOW - 301), "is 301 s old; 300 s are allowed"),
        (str(NOW + 301), "is 301 s ahead; 300 s are allowed"),
        ("0000000000", "s old"),
        ("9" * 13, "s ahead"),
        ("9" * 5000, "is not a time"),
    ],
)
def test_a_time_that_is_none_or_far_from_now_is_refused_although_it_is_signed(timestamp: str, message: str) -> None:
    right = code(timestamp.encode("latin-1", "replace") + b"." + BODY)

    assert message in str(stripe(f"t={timestamp},v1={right}"))


@pytest.mark.parametrize("timestamp", [str(NOW - 300), str(NOW + 300), f"{NOW}999", "2026-03-08T20:00:00.5Z"])
def test_a_time_is_signed_as_it_is_written(timestamp: str) -> None:
    assert stripe(f"t={timestamp},v1={code(timestamp.encode() + b'.' + BODY)}") is None
    assert stripe(f"t={timestamp},v1={code(b'%d.' % NOW + BODY)}") is not None


def test_where_the_body_follows_the_time_directly_no_digit_can_change_sides() -> None:
    scheme = Hmac(header="X-S", signed=SignedText(template="{timestamp}{body}", timestamp_header="X-T"))
    right = code(b"%d" % NOW + b"123 units")

    assert refusal(scheme, Incoming({"x-s": right, "x-t": str(NOW)}, b"123 units", now=NOW)) is None
    assert "not a time" in str(refusal(scheme, Incoming({"x-s": right, "x-t": f"{NOW}123"}, b" units", now=NOW)))


def test_an_id_that_could_be_cut_elsewhere_is_refused() -> None:
    scheme = Hmac(header="webhook-signature", prefix="v1,", separator=" ", signed=STANDARD, encoding="base64")
    digest = hmac.new(b"s3cret", f"msg.1.{NOW}.".encode() + BODY, "sha256").digest()
    headers = {"webhook-timestamp": str(NOW), "webhook-signature": "v1," + base64.b64encode(digest).decode()}

    assert "'.'" in str(refusal(scheme, Incoming({**headers, "webhook-id": "msg.1"}, BODY, now=NOW)))
    assert refusal(scheme, Incoming(headers, BODY, now=NOW)) == "The header webhook-id is missing."
    assert (
        refusal(scheme, Incoming({**headers, "webhook-id": ""}, BODY, now=NOW)) == "The header webhook-id is missing."
    )


@pytest.mark.parametrize(
    ("secret", "key_form"),
    [
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "base64"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec"),
        ("31f290f6bf06298aab4f08d43c3f082cf648a362da2da4b0", "hex"),
    ],
)
def test_a_key_may_be_written_in_several_ways(secret: str, key_form: Any) -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    config = SourceConfig(secrets=(secret,))

    assert refusal(Hmac(header="X-S", key=key_form), Incoming({"x-s": code(BODY, key)}, BODY), config) is None
    check_keys(config, key_form)


def test_the_padding_of_a_key_may_be_missing() -> None:
    config = SourceConfig(secrets=("whsec_" + base64.b64encode(b"k" * 32).decode().rstrip("="),))

    assert refusal(Hmac(header="X-S", key="base64"), Incoming({"x-s": code(BODY, b"k" * 32)}, BODY), config) is None


@pytest.mark.parametrize(
    ("secret", "key_form"),
    [("whsec_", "base64"), ("whsec_é", "base64"), ("a", "base64"), ("MfKQ9r8G", "whsec"), ("xy", "hex"), ("é", "hex")],
)
def test_what_is_no_key_is_never_used_as_one(secret: str, key_form: Any) -> None:
    config = SourceConfig(secrets=(secret,))
    scheme = Hmac(header="X-S", key=key_form)

    for key in (b"", secret.encode()):
        assert "No secret of this schedule is a key" in str(
            refusal(scheme, Incoming({"x-s": code(BODY, key)}, BODY), config)
        )
    with pytest.raises(Invalid):
        scheme.sign(Incoming({}, BODY), config)
    with pytest.raises(Invalid) as wrong:
        check_keys(config, key_form)
    assert [error.pointer for error in wrong.value.errors] == ["/source_config/secrets/0"]


def test_a_form_with_more_than_the_signed_field_is_refused() -> None:
    scheme = Hmac(header="X-S", signed=SignedText(form_field="payload"))
    headers = {"x-s": code(b"{}"), "content-type": "application/x-www-form-urlencoded"}

    assert refusal(scheme, Incoming(headers, b"payload=%7B%7D")) is None
    assert "others are not signed" in str(refusal(scheme, Incoming(headers, b"payload=%7B%7D&extra=1")))
    assert refusal(scheme, Incoming(headers, b"payload=%7B%7D&payload=%7B%7D")) is not None
    assert refusal(scheme, Incoming({"x-s": code(b"payload=%7B%7D")}, b"payload=%7B%7D")) is None


def test_a_time_in_the_body_counts_only_when_the_body_is_signed() -> None:
    scheme = Hmac(header="X-S", signed=SignedText(timestamp_field="at", tolerance_s=60))

    def sent(body: bytes) -> str | None:
        return refusal(scheme, Incoming({"x-s": code(body)}, body, now=NOW))

    assert sent(b'{"at": %d000}' % (NOW - 60)) is None
    assert "61 s old" in str(sent(b'{"at": %d000}' % (NOW - 61)))
    assert "61 s ahead" in str(sent(b'{"at": %d000}' % (NOW + 61)))
    for body in (b"{}", b"[]", b"", b'{"at": null}', b'{"at": true}'):
        assert sent(body) == "There is no time in the field at of the body."
    assert "does not match" in str(refusal(scheme, Incoming({"x-s": code(b"other")}, b'{"at": 1}', now=NOW)))


@pytest.mark.parametrize(
    ("value", "path", "found"),
    [
        ({"a": {"b": "c"}}, ("a", "b"), "c"),
        ({"a": 0}, ("a",), "0"),
        ({"a": "c"}, ("a", "b"), None),
        ({"a": ["b"]}, ("a", "b"), None),
        ({"a": ""}, ("a",), None),
        ({"a": True}, ("a",), None),
        ({"a": 1.5}, ("a",), None),
        ({"a": "no\0database takes this"}, ("a",), None),
        ([], ("a",), None),
        (None, (), None),
    ],
)
def test_what_stands_at_a_place_is_a_text_or_nothing(value: Any, path: tuple[str, ...], found: str | None) -> None:
    assert text_at(value, *path) == found


# Ed25519


def test_rfc_8032_holds() -> None:
    signature = (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2"
        "4655141438e7a100b"
    )
    plain = Ed25519(header="X-S")

    assert refusal(plain, Incoming({"x-s": signature}, b""), SourceConfig(public_key=PUBLIC)) is None
    assert refusal(plain, Incoming({"x-s": signature}, b"a"), SourceConfig(public_key=PUBLIC)) is not None


@pytest.mark.parametrize(
    "secret",
    [
        SEED,
        "whsk_" + base64.b64encode(bytes.fromhex(SEED)).decode(),
        "whsk_" + base64.b64encode(bytes.fromhex(SEED + PUBLIC)).decode(),
    ],
)
def test_who_has_the_private_key_can_sign(secret: str) -> None:
    request = DISCORD.sign(Incoming({}, BODY, now=NOW), SourceConfig(secrets=(secret,), public_key=PUBLIC))

    for key in (PUBLIC, f"{OTHER_PUBLIC} {PUBLIC}", "whpk_" + base64.b64encode(bytes.fromhex(PUBLIC)).decode()):
        assert refusal(DISCORD, request, SourceConfig(public_key=key)) is None
    assert "does not match" in str(refusal(DISCORD, request, SourceConfig(public_key=OTHER_PUBLIC)))


@pytest.mark.parametrize("secret", ["", "s3cret", PUBLIC[:-2], "whsk_", "whpk_" + SEED])
def test_nobody_else_can(secret: str) -> None:
    with pytest.raises(Invalid):
        DISCORD.sign(Incoming({}, BODY, now=NOW), SourceConfig(secrets=(secret,), public_key=PUBLIC))


@pytest.mark.parametrize("key", ["x", PUBLIC[:-2], PUBLIC + "00", "whpk_", "whpk_AAAA", f"{PUBLIC} x"])
def test_what_is_no_public_key_is_said_before_it_is_saved_and_verifies_nothing(key: str) -> None:
    request = DISCORD.sign(Incoming({}, BODY, now=NOW), SourceConfig(secrets=(SEED,), public_key=PUBLIC))

    with pytest.raises(Invalid):
        check_public_key(SourceConfig(public_key=key))
    assert (refusal(DISCORD, request, SourceConfig(public_key=key)) is None) == (PUBLIC in key.split())


def test_who_has_no_sender_with_a_public_key_does_not_load_what_verifies_it() -> None:
    code = (
        "import sys; from gateway import sources; from gateway.incoming import Incoming\n"
        "from schemas.schedules import SourceConfig\n"
        "sources.discover()['github'].sign(Incoming({}, b'{}'), SourceConfig(secrets=('a',)))\n"
        "print('cryptography' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# A signature that a schedule describes


@given(
    st.builds(
        SignatureConfig,
        header=st.sampled_from(["X-Signature", "Authorization"]),
        prefix=st.sampled_from(["", "sha=", "v1,", "Sig "]),
        template=st.sampled_from(["{body}", "{timestamp}.{body}", "v0:{id}:{timestamp}:{body}", "{body}|{timestamp}"]),
        algorithm=st.sampled_from(["sha1", "sha256", "sha384", "sha512"]),
        encoding=st.sampled_from(["hex", "base64"]),
        key_encoding=st.sampled_from(["text", "base64"]),
        timestamp_header=st.just("X-Time"),
        id_header=st.just("X-Id"),
    ),
    st.binary(),
)
def test_whatever_is_described_can_be_signed_and_verified(signature: SignatureConfig, body: bytes) -> None:
    config = SourceConfig(secrets=("whsec_" + "A" * 32, "B" * 32), signature=signature)
    request = ConfiguredHmac().sign(Incoming({}, body, now=NOW), config)

    assert refusal(ConfiguredHmac(), request, config) is None
    assert refusal(ConfiguredHmac(), msgspec.structs.replace(request, body=body + b"x"), config) is not None
    is_timed = "{timestamp}" in signature.template
    assert (refusal(ConfiguredHmac(), msgspec.structs.replace(request, now=NOW + 301), config) is not None) is is_timed


@pytest.mark.parametrize(
    ("template", "pointer"),
    [
        ("{body}{secret}", "template"),
        ("{body}{body}", "template"),
        ("{id}{body}", "id_header"),
        ("{timestamp}{body}", "timestamp_header"),
    ],
)
def test_a_template_that_cannot_work_is_pointed_at(template: str, pointer: str) -> None:
    config = SourceConfig(secrets=("a",), signature=SignatureConfig(header="X-S", template=template))

    with pytest.raises(Invalid) as wrong:
        check_signature(config)
    assert [error.pointer for error in wrong.value.errors] == [f"/source_config/signature/{pointer}"]


# Twilio


TOKEN = SourceConfig(secrets=("12345",))
FORM = {"content-type": "application/x-www-form-urlencoded"}


def twilio(url: str, body: bytes, signed_url: str, fields: str = "", **headers: str) -> str | None:
    digest = hmac.new(b"12345", (signed_url + fields).encode(), hashlib.sha1).digest()
    sent = {**FORM, "x-twilio-signature": base64.b64encode(digest).decode(), **headers}
    return refusal(Twilio(), Incoming(sent, body, url=url), TOKEN)


@pytest.mark.parametrize("called", ["https://a.example/x?y=1", "https://a.example:443/x?y=1"])
@pytest.mark.parametrize("signed", ["https://a.example/x?y=1", "https://a.example:443/x?y=1"])
def test_twilio_may_sign_the_url_with_its_default_port_or_without(called: str, signed: str) -> None:
    assert twilio(called, b"B=2&A=1", signed, "A1B2") is None


def test_twilio_may_leave_out_a_port_that_we_were_called_by() -> None:
    assert twilio("http://a.example:8787/x", b"", "http://a.example/x") is None
    assert twilio("http://a.example:8787/x", b"", "http://a.example:8787/x") is None


def test_a_public_url_may_be_written_in_capitals() -> None:
    assert twilio("HTTPS://a.example/x", b"", "HTTPS://a.example:443/x") is None
    assert twilio("http://a.example/x", b"", "http://a.example:80/x") is None
    assert twilio("http://a.example/x", b"", "http://a.example:443/x") is not None
    assert twilio("https://b.example/x", b"", "https://a.example/x") is not None
    assert twilio("https://[2001:db8::1]/x", b"", "https://[2001:db8::1]:443/x") is None


def test_twilio_signs_each_distinct_value_of_a_field_in_order() -> None:
    assert twilio("https://a.example/x", b"M=b&M=a&M=b&A=", "https://a.example/x", "AMaMb") is None


def test_a_body_that_twilio_did_not_sign_is_refused() -> None:
    json_type = {"content-type": "application/json"}
    digest = hashlib.sha256(BODY).hexdigest()
    url = f"https://a.example/x?bodySHA256={digest}"

    assert twilio(url, BODY, url, **json_type) is None
    assert "bodySHA256" in str(twilio(url, BODY + b" ", url, **json_type))
    assert "bodySHA256" in str(twilio("https://a.example/x", BODY, "https://a.example/x", **json_type))


@pytest.mark.parametrize("settings", ["algorithm=HMAC_MD5", "key=a,algorithm=none"])
def test_an_algorithm_that_twilio_does_not_have_is_refused(settings: str) -> None:
    given_settings = {"x-twilio-webhooks-signature-settings": settings}

    assert "algorithm" in str(twilio("https://a.example/x", b"", "https://a.example/x", **given_settings))
    with pytest.raises(Invalid):
        Twilio().sign(Incoming(given_settings, b"", url="https://a.example/x"), TOKEN)


def test_a_secret_in_the_query_is_put_into_the_url_as_well() -> None:
    signed = SharedSecret(query="secret").sign(
        Incoming({}, b"", url="https://a.example/x"), SourceConfig(secrets=("a&b",))
    )

    assert signed.query == {"secret": "a&b"}
    assert signed.url == "https://a.example/x?secret=a%26b"
