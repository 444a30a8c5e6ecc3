"""The senders' own libraries: what they sign we verify, and what we sign they verify."""

import datetime as dt
import hashlib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
import pytest
import stripe
import svix.webhooks
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook
from twilio.request_validator import RequestValidator

from gateway import sources
from gateway.incoming import Incoming
from schemas.errors import BadSignature
from schemas.schedules import SourceConfig

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONFIG = SourceConfig(secrets=(SECRET,))
URL = "https://hooks.example.com/hooks/7/pst_0"
FORM = "application/x-www-form-urlencoded"
TEXTS = st.text(min_size=1, max_size=50)
FIELDS = st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), max_size=6)


def verify(name: str, headers: dict[str, str], body: bytes, **more: Any) -> None:
    sources.discover()[name].verify(Incoming(headers, body, now=time.time(), **more), CONFIG)


def sign(name: str, body: bytes, headers: dict[str, str] | None = None, **more: Any) -> Incoming:
    return sources.discover()[name].sign(Incoming(headers or {}, body, now=time.time(), **more), CONFIG)


def refuses(name: str, headers: dict[str, str], body: bytes, **more: Any) -> bool:
    try:
        verify(name, headers, body, **more)
    except BadSignature:
        return True
    return False


@given(TEXTS)
def test_stripe(text: str) -> None:
    now, body = int(time.time()), text.encode()
    signature = stripe.WebhookSignature._compute_signature(f"{now}.{text}", SECRET)  # type: ignore[no-untyped-call]
    headers = {"stripe-signature": f"t={now},v1={signature}"}

    verify("stripe", headers, body)
    assert refuses("stripe", headers, body + b" ")
    ours = sign("stripe", body).headers["stripe-signature"]
    assert stripe.WebhookSignature.verify_header(text, ours, SECRET, 300)


@given(TEXTS)
def test_slack(text: str) -> None:
    theirs, now, body = SignatureVerifier(SECRET), str(int(time.time())), text.encode()
    headers = {
        "x-slack-request-timestamp": now,
        "x-slack-signature": str(theirs.generate_signature(timestamp=now, body=body)),
    }

    verify("slack", headers, body)
    assert refuses("slack", headers, body + b" ")
    assert theirs.is_valid_request(body, dict(sign("slack", body).headers))


@pytest.mark.parametrize(
    ("name", "family", "library"),
    [
        ("standard_webhooks", "webhook", Webhook),
        ("gitlab", "webhook", Webhook),
        ("svix", "svix", svix.webhooks.Webhook),
        ("svix", "webhook", svix.webhooks.Webhook),
    ],
)
def test_standard_webhooks_and_who_follows_them(name: str, family: str, library: Callable[[str], Any]) -> None:
    @given(TEXTS)
    def hold(text: str) -> None:
        now, theirs = dt.datetime.fromtimestamp(int(time.time()), dt.UTC), library(SECRET)
        headers = {
            f"{family}-id": "msg_1",
            f"{family}-timestamp": str(int(now.timestamp())),
            f"{family}-signature": f"v1,AAAA {theirs.sign('msg_1', now, text)}",
        }

        verify(name, headers, text.encode())
        assert refuses(name, headers, text.encode() + b" ")
        quoted = msgspec.json.encode(text)  # their library parses what it has verified
        theirs.verify(quoted, dict(sign(name, quoted).headers))

    hold()


@given(FIELDS, st.sampled_from([None, "HMAC_SHA1", "HMAC_SHA256"]))
def test_twilio_forms(fields: dict[str, str], algorithm: str | None) -> None:
    theirs, body = RequestValidator(SECRET), urlencode(fields).encode()
    settings = {"x-twilio-webhooks-signature-settings": f"key=k,algorithm={algorithm}"} if algorithm else {}
    headers = {"content-type": FORM, **settings}
    signature = theirs.compute_signature(URL, fields, algorithm)

    verify("twilio", headers | {"x-twilio-signature": signature}, body, url=URL)
    assert refuses("twilio", headers | {"x-twilio-signature": signature}, body + b"&more=1", url=URL)
    ours = sign("twilio", body, headers, url=URL).headers["x-twilio-signature"]
    assert theirs.validate(URL, dict(parse_qsl(body.decode(), keep_blank_values=True)), ours, algorithm)


@given(TEXTS)
def test_twilio_json(text: str) -> None:
    theirs, url = RequestValidator(SECRET), f"{URL}?bodySHA256={hashlib.sha256(text.encode()).hexdigest()}"
    headers = {"content-type": "application/json", "x-twilio-signature": theirs.compute_signature(url, {})}

    verify("twilio", headers, text.encode(), url=url)
    assert refuses("twilio", headers, text.encode() + b" ", url=url)
    ours = sign("twilio", text.encode(), {"content-type": "application/json"}, url=URL)
    assert theirs.validate(ours.url, text, ours.headers["x-twilio-signature"])
