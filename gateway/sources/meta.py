"""Meta's webhooks (Facebook, Instagram, WhatsApp): batches of entries, and a challenge by GET before the first.

Meta gives a delivery no id, but each entry has its time: the same bytes are the same delivery, or entry, sent again.
"""

import hmac
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway import delivery_ids
from gateway.incoming import text_at
from gateway.schemes.hmacs import Hmac
from gateway.sources import Facts, Incoming, Item, Reply, Sample, Source
from schemas.errors import BadSignature
from schemas.schedules import SourceConfig


def _read(incoming: Incoming) -> Facts:
    return Facts(event_type=incoming.at("object"), delivery_id=delivery_ids.of_body("meta", incoming.body))


def _split(incoming: Incoming) -> Iterator[Item]:
    """Give each entry the shape of a delivery with this one alone, so that a pipeline reads both alike."""
    document = incoming.document
    entries = document.get("entry") if isinstance(document, dict) else None
    event_type = text_at(document, "object")
    alone = ({**document, "entry": [entry]} for entry in (entries if isinstance(entries, list) else ()))
    return (Item(payload=one, id=_identify(one), event_type=event_type) for one in alone)


def _identify(entry: Any) -> str | None:
    try:
        return delivery_ids.of_body("meta", msgspec.json.encode(entry))
    except RecursionError:  # deeper than can be written again, although it could be read
        return None


def _greet(incoming: Incoming, config: SourceConfig) -> Reply | None:
    query = incoming.query
    if incoming.method != "GET" or query.get("hub.mode") != "subscribe":
        return None
    given, expected = query.get("hub.verify_token", ""), config.verify_token
    if not expected or not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
        raise BadSignature("hub.verify_token is not the verify_token of this schedule.")
    return Reply(body=query.get("hub.challenge", "").encode("utf-8", "replace"), content_type="text/plain")


source = Source(
    name="meta",
    title="Meta (Facebook, Instagram, WhatsApp)",
    schemes=(Hmac(header="X-Hub-Signature-256", prefix="sha256="),),
    takes=("verify_token",),
    read=_read,
    split=_split,
    greet=_greet,
    setup=(
        "App dashboard > Webhooks: give the schedule the app secret and a verify_token of your choice first, then the "
        "URL of a token as Callback URL with the same Verify token; Meta asks for it at once."
    ),
    dedupe="the body's hash",
    handshakes="GET with `hub.challenge`",
    samples={
        "page": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"object": "page", "entry": [{"id": "1", "time": {unix}, '
                b'"changes": [{"field": "feed", "value": {"item": "status", "message": "caf\\u00e9"}}]}]}'
            ),
        )
    },
)
