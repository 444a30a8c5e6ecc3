"""Slack: events, slash commands, and what people press, which comes as JSON in the field `payload` of a form.

The challenge that proves the URL is signed like everything else, and answered after the signature was checked
(docs.slack.dev, "url_verification").
"""

from typing import Any

import msgspec

from gateway import delivery_ids
from gateway.incoming import text_at
from gateway.schemes.hmacs import Hmac
from gateway.schemes.signed import SignedText
from gateway.sources import Facts, Handshake, Incoming, Reply, Sample, Source

_CHALLENGE = "url_verification"


def _read(incoming: Incoming) -> Facts:
    document = incoming.document
    if pressed := text_at(document, "payload"):
        return _read_interaction(_decode(pressed))
    if text_at(document, "command"):
        return Facts(event_type="slash_command", delivery_id=_triggered(document))
    kind = text_at(document, "type")
    return Facts(
        event_type=text_at(document, "event", "type") or kind,
        delivery_id=delivery_ids.named("slack", text_at(document, "event_id")),
        handshake=_challenge(document) if kind == _CHALLENGE else None,
    )


def _read_interaction(document: Any) -> Facts:
    return Facts(event_type=text_at(document, "type"), delivery_id=_triggered(document))


def _triggered(document: Any) -> str | None:
    return delivery_ids.named("slack:trigger", text_at(document, "trigger_id"))


def _challenge(document: Any) -> Handshake:
    challenge = text_at(document, "challenge") or ""
    return Handshake(kind=_CHALLENGE, reply=Reply(body=challenge.encode(), content_type="text/plain"))


def _decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


source = Source(
    name="slack",
    title="Slack",
    schemes=(
        Hmac(
            header="X-Slack-Signature",
            prefix="v0=",
            signed=SignedText(template="v0:{timestamp}:{body}", timestamp_header="X-Slack-Request-Timestamp"),
        ),
    ),
    read=_read,
    setup=(
        "api.slack.com/apps > your app: give the schedule the Signing Secret of Basic Information, then put the URL of "
        "a token into Event Subscriptions, Interactivity or Slash Commands."
    ),
    dedupe="`event_id`; `trigger_id` of commands and interactions",
    handshakes="`url_verification`: the challenge",
    samples={
        "mention": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"type": "event_callback", "event_id": "Ev{uuid}", "team_id": "T1", "event_time": {unix}, '
                b'"event": {"type": "app_mention", "user": "U1", "channel": "C1", "text": "<@U0> run"}}'
            ),
        )
    },
)
