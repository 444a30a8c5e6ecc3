"""Google Cloud Pub/Sub push, also with what Cloud Storage publishes.

cloud.google.com, "Push subscriptions": 102, 200, 201, 202 and 204 acknowledge, all else and silence until the deadline
has the message sent again. The body is either an envelope with the data in base64, or the data with our facts in
headers ("payload unwrapping").
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from gateway import delivery_ids, members
from gateway.incoming import text_at
from gateway.schemes.oidc import OidcToken
from gateway.sources import Facts, Incoming, Item, Sample, Source

_UNWRAPPED_ID = "x-goog-pubsub-message-id"


def _read(incoming: Incoming) -> Facts:
    unwrapped_id = incoming.headers.get(_UNWRAPPED_ID)
    message_id = unwrapped_id or incoming.at("message", "messageId")
    event_type = incoming.headers.get("eventtype") if unwrapped_id else _event_type(incoming.document)
    return Facts(event_type=event_type or None, delivery_id=delivery_ids.named("pubsub", message_id))


def _event_type(document: Any) -> str | None:
    """Cloud Storage writes `eventType`, Eventarc and other publishers of CloudEvents `ce-type`."""
    attributes = members.find(document, "message", "attributes")
    return text_at(attributes, "eventType") or text_at(attributes, "ce-type")


def _split(incoming: Incoming) -> Sequence[Item]:
    """One message is one item: the envelope, with the data read in place of its base64 when it is JSON or text."""
    facts = _read(incoming)
    return [Item(payload=_with_data(incoming), id=facts.delivery_id, event_type=facts.event_type)]


def _with_data(incoming: Incoming) -> Any:
    document, data = incoming.document, members.find(incoming.document, "message", "data")
    if _UNWRAPPED_ID in incoming.headers or not isinstance(data, str):
        return document
    try:
        content = base64.b64decode(data.encode("utf-8", "replace"), validate=True)
    except binascii.Error:
        return document
    read = members.decoded(content)
    return document | {"message": document["message"] | {"data": read}} if read is not None else document


source = Source(
    name="pubsub",
    title="Google Cloud Pub/Sub",
    schemes=(
        OidcToken(
            issuers=("accounts.google.com", "https://accounts.google.com"),
            jwks_url="https://www.googleapis.com/oauth2/v3/certs",
        ),
    ),
    read=_read,
    split=_split,
    setup=(
        "Create a push subscription with the URL of a token as endpoint, enable authentication with a service account,"
        " and give its e-mail address as `email` and the subscription's audience as `audience` of the schedule (Pub/Sub"
        " takes the endpoint's URL when none is set, which holds the token: set another). An emulator's keys come from"
        " `jwks_url`."
    ),
    dedupe="`messageId`",
    samples={
        "message": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"message":{"data":"eyJvcmRlciI6NDcxMX0=","attributes":{"origin":"shop"},"messageId":"{uuid}",'
                b'"message_id":"{uuid}","publishTime":"2026-01-02T03:04:05.678Z"},'
                b'"subscription":"projects/example/subscriptions/penstock"}'
            ),
        )
    },
)
