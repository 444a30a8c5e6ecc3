"""SNS messages: what Amazon signed is believed, and nothing that differs from it in any way."""

import base64
import json
import re
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import sources
from gateway.schemes.sns import may_visit
from gateway.sources import Incoming
from schemas.errors import BadSignature
from schemas.schedules import SourceConfig
from tests.rsa_senders import AMAZONS_CERTIFICATE, TOPIC, YEAR_S, Amazon, certify, rsa_key

SNS = sources.discover()["sns"]
AMAZON = Amazon()
EMULATOR = Amazon("http://localhost:4566")
TRUSTED = re.compile(r"(https://sns\.[a-zA-Z0-9-]+\.amazonaws\.com|http://localhost:4566)/[^/]*\Z")
TYPES = ["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]


def request(
    message: Any, *, certificate: bytes = AMAZON.certificate, url: str = AMAZONS_CERTIFICATE, **headers: str
) -> Incoming:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Incoming(
        {"content-type": "text/plain; charset=UTF-8"} | named, body, now=time.time(), documents={url: certificate}
    )


def verdict(incoming: Incoming, config: SourceConfig = SourceConfig()) -> str | None:  # noqa: B008 (frozen)
    """Say what is wrong, as the gateway would find it out: what is wanted is fetched before the rest is looked at."""
    try:
        scheme = SNS.scheme(incoming, config)
        assert scheme is not None
        assert all(TRUSTED.match(url) for url in scheme.wants(incoming, config))
        SNS.verify(incoming, config)
    except BadSignature as error:
        return error.message
    return None


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("kind", TYPES)
def test_what_amazon_signed_is_believed(kind: str, version: str) -> None:
    assert verdict(request(AMAZON.message(kind, version=version))) is None


@pytest.mark.parametrize("text", ["", "two\nlines", "Zürich 🎈", '{"a":"\\u00fc"}', "MessageId\nx\n", "\u0000"])
def test_the_members_are_signed_as_the_json_says_them_however_it_spells_them(text: str) -> None:
    message = AMAZON.message(Message=text, Subject="A subject")

    assert verdict(request(json.dumps(message, ensure_ascii=False).encode())) is None
    assert verdict(request(json.dumps(message, ensure_ascii=True, indent=2).encode())) is None


@pytest.mark.parametrize("name", ["Message", "MessageId", "Subject", "Timestamp", "TopicArn"])
def test_every_signed_member_of_a_notification_counts(name: str) -> None:
    message = AMAZON.message(Subject="A subject")

    assert verdict(request(message | {name: message[name] + "x"})) == "The Signature does not match the message."


@pytest.mark.parametrize("kind", TYPES[1:])
@pytest.mark.parametrize("name", ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn"])
def test_every_signed_member_of_a_confirmation_counts(kind: str, name: str) -> None:
    message = AMAZON.message(kind)

    assert verdict(request(message | {name: message[name] + "x"})) == "The Signature does not match the message."


def test_a_subject_that_was_not_signed_cannot_be_added_nor_one_that_was_be_taken_away() -> None:
    bare, titled = AMAZON.message(), AMAZON.message(Subject="A subject")
    del titled["Subject"]

    assert verdict(request(bare | {"Subject": "A subject"})) == "The Signature does not match the message."
    assert verdict(request(titled)) == "The Signature does not match the message."
    assert verdict(request(bare | {"Subject": None})) is None


def test_a_notification_cannot_be_turned_into_a_confirmation() -> None:
    message = AMAZON.message("UnsubscribeConfirmation")

    assert verdict(request(message | {"Type": "SubscriptionConfirmation"})) is not None


def test_members_cannot_be_cut_in_another_way_out_of_the_same_text() -> None:
    """Else one signature would do for another MessageId, and a replay would not be known as one."""
    message = AMAZON.message(Message="first\nMessageId\nsecond", MessageId="third")
    forged = message | {"Message": "first", "MessageId": "second\nMessageId\nthird"}

    assert AMAZON.signature(forged) == AMAZON.signature(message)
    assert verdict(request(message)) is None
    assert verdict(request(forged)) == "There is a line break in MessageId."


@pytest.mark.parametrize("version", ["0", "3", "", "1.0", "2 ", "v1"])
def test_there_are_two_versions_of_the_signature(version: str) -> None:
    message = AMAZON.message(version="2") | {"SignatureVersion": version}

    assert verdict(request(message)) == "The SignatureVersion is neither 1 nor 2."


@pytest.mark.parametrize(("signed", "claimed"), [("1", "2"), ("2", "1")])
def test_a_signature_of_one_version_is_none_of_the_other(signed: str, claimed: str) -> None:
    message = AMAZON.message(version=signed) | {"SignatureVersion": claimed}

    assert verdict(request(message)) == "The Signature does not match the message."


@pytest.mark.parametrize("signature", ["", "A", "no base64!", "é", "AAAA", base64.b64encode(bytes(256)).decode()])
def test_whatever_else_stands_in_place_of_the_signature_is_refused(signature: str) -> None:
    assert verdict(request(AMAZON.message() | {"Signature": signature})) is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"Type": 1}',
        json.dumps(AMAZON.message("Advertisement")).encode(),
        json.dumps(AMAZON.message("SubscriptionConfirmation", Token=None)).encode(),
        json.dumps(AMAZON.message() | {"Message": {"a": 1}}).encode(),
    ],
)
def test_what_is_no_message_of_sns_is_refused(body: bytes) -> None:
    assert verdict(request(body)) is not None


@pytest.mark.parametrize(
    "url",
    [
        AMAZONS_CERTIFICATE.replace("https:", "http:"),
        AMAZONS_CERTIFICATE.replace("sns.", "sqs."),
        AMAZONS_CERTIFICATE.replace("amazonaws.com", "amazonaws.com.evil.example"),
        AMAZONS_CERTIFICATE.replace("amazonaws.com", "amazonaws.com.cn.example"),
        AMAZONS_CERTIFICATE.replace("amazonaws.com", "amazonaws.com:444"),
        AMAZONS_CERTIFICATE.replace("amazonaws.com", "amazonaws.com."),
        AMAZONS_CERTIFICATE.replace("sns.", "evil.example/sns."),
        AMAZONS_CERTIFICATE.replace("sns.", "evil.example#sns."),
        AMAZONS_CERTIFICATE.replace("sns.", "evil.example?sns."),
        AMAZONS_CERTIFICATE.replace("sns.", "evil.example\\@sns."),
        AMAZONS_CERTIFICATE.replace("sns.", "user@sns."),
        AMAZONS_CERTIFICATE.replace("sns.", "sns.a.b."),
        AMAZONS_CERTIFICATE.replace("amazonaws.com/", "amazonaws.com/bucket/"),
        AMAZONS_CERTIFICATE.replace("amazonaws.com/", "amazonaws.com/../"),
        AMAZONS_CERTIFICATE + "?x=1",
        AMAZONS_CERTIFICATE + "#x",
        AMAZONS_CERTIFICATE + "\n",
        AMAZONS_CERTIFICATE + "/",
        " " + AMAZONS_CERTIFICATE,
        "https://s3.amazonaws.com/bucket" + AMAZONS_CERTIFICATE.rpartition("/")[2],
        "https://sns.eu-central-1.amazonaws.com/evil.pem",
        "//sns.eu-central-1.amazonaws.com" + AMAZON.certificate_path,
        "https://[sns.eu-central-1.amazonaws.com" + AMAZON.certificate_path,
        "file:///etc/passwd",
        "",
    ],
)
def test_a_certificate_from_anywhere_but_amazon_is_not_even_fetched(url: str) -> None:
    forger = Amazon()
    message = forger.message(SigningCertURL=url)

    found = verdict(request(message, certificate=forger.certificate, url=url))
    assert found == "The SigningCertURL is not where certificates of SNS are."


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1"])
def test_every_region_of_amazon_is_believed(region: str) -> None:
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"

    assert may_visit(f"https://sns.{region}.{domain}/?Action=ConfirmSubscription", SourceConfig())


@pytest.mark.parametrize("name", ["SubscribeURL", "UnsubscribeURL"])
@pytest.mark.parametrize("url", ["https://evil.example.com/", "http://169.254.169.254/", "https://[", ""])
def test_no_message_leads_to_another_host_even_when_it_is_signed(name: str, url: str) -> None:
    message = AMAZON.message("SubscriptionConfirmation", **{name: url})

    assert verdict(request(message)) == f"The {name} does not lead to SNS."


def test_named_hosts_take_the_place_of_amazon_for_all_three_urls() -> None:
    config = SourceConfig(certificate_hosts=("LocalHost:4566",))
    place = {"certificate": EMULATOR.certificate, "url": EMULATOR.url + EMULATOR.certificate_path}
    message = EMULATOR.message("SubscriptionConfirmation")

    assert verdict(request(message, **place), config) is None
    assert verdict(request(message, **place)) is not None
    assert verdict(request(AMAZON.message()), config) == "The SigningCertURL is not where certificates of SNS are."
    elsewhere = EMULATOR.message("SubscriptionConfirmation", SubscribeURL="http://localhost:9000/")
    assert verdict(request(elsewhere, **place), config) == "The SubscribeURL does not lead to SNS."


def test_topics_restrict_whose_messages_count() -> None:
    message = AMAZON.message()

    assert verdict(request(message), SourceConfig(topics=("other", TOPIC))) is None
    assert (
        verdict(request(message), SourceConfig(topics=(TOPIC + "2",)))
        == "The TopicArn is not one of this schedule's topics."
    )


OTHER_KEY = Amazon()
NO_CERTIFICATE = "The certificate that signed this is not an X.509 certificate of an RSA key."
NOT_NOW = "The certificate at SigningCertURL is not valid now."


@pytest.mark.parametrize(
    ("certificate", "message"),
    [
        (OTHER_KEY.certificate, "The Signature does not match the message."),
        (certify(AMAZON.key, not_before=time.time() - YEAR_S, not_after=time.time() - 60), NOT_NOW),
        (certify(AMAZON.key, not_before=time.time() + 60), NOT_NOW),
        (AMAZON.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), NO_CERTIFICATE),
        (certify(ec.generate_private_key(ec.SECP256R1())), NO_CERTIFICATE),
        (certify(rsa_key(1024)), NO_CERTIFICATE),
        (AMAZON.certificate[:-100], NO_CERTIFICATE),
        (b"", NO_CERTIFICATE),
        (b"<html>not found</html>", NO_CERTIFICATE),
        (b"\xff" * 1000, NO_CERTIFICATE),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", NO_CERTIFICATE),
    ],
)
def test_only_a_valid_certificate_of_the_key_that_signed_will_do(certificate: bytes, message: str) -> None:
    assert verdict(request(AMAZON.message(), certificate=certificate)) == message


def test_a_key_of_another_kind_is_none() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    assert verdict(request(AMAZON.message(), certificate=pem)) == NO_CERTIFICATE


def test_without_its_certificate_nothing_is_believed() -> None:
    assert verdict(request(AMAZON.message(), url="https://elsewhere.example.com/")) is not None


def test_a_raw_delivery_needs_a_secret_since_nobody_signs_it() -> None:
    raw = request(b'{"order": 4711}', x_amz_sns_rawdelivery="true")
    with_secret = SourceConfig(secrets=("raw secret",))

    assert "raw message delivery" in str(verdict(raw))
    assert "raw message delivery" in str(verdict(raw, with_secret))
    SNS.verify(Incoming(raw.headers, raw.body, query={"secret": "raw secret"}), with_secret)
    with pytest.raises(BadSignature):
        SNS.verify(Incoming(raw.headers, raw.body, query={"secret": "another"}), with_secret)


def test_a_message_is_signed_also_where_raw_ones_are_let_in() -> None:
    with_secret = SourceConfig(secrets=("raw secret",))
    forged = request(AMAZON.message() | {"MessageId": "other"})

    assert verdict(request(AMAZON.message()), with_secret) is None
    assert verdict(forged, with_secret) == "The Signature does not match the message."


SIGNED = json.dumps(AMAZON.message("SubscriptionConfirmation")).encode()


@settings(max_examples=300)
@given(st.integers(0, len(SIGNED) - 1), st.integers(0, 255))
def test_any_changed_byte_is_refused_or_means_the_same(position: int, byte: int) -> None:
    changed = SIGNED[:position] + bytes([byte]) + SIGNED[position + 1 :]

    if verdict(request(changed)) is None:
        kept = {"Type", "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn"}
        was, now = json.loads(SIGNED), json.loads(changed.decode(errors="replace"))
        assert {name: now[name] for name in kept} == {name: was[name] for name in kept}


@settings(max_examples=200)
@given(st.integers(0, len(AMAZON.certificate) - 1), st.binary(max_size=5))
def test_a_damaged_certificate_is_one_bad_signature(position: int, put: bytes) -> None:
    damaged = AMAZON.certificate[:position] + put + AMAZON.certificate[position + 1 :]

    verdict(request(AMAZON.message(), certificate=damaged))
