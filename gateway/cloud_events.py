"""CloudEvents 1.0 as they come over HTTP, whichever of the three modes carries them.

github.com/cloudevents/spec, HTTP protocol binding, section 3. The header values of the binary mode are read leniently:
widespread libraries send Latin-1 and a bare `%` where the specification wants UTF-8 in percent-encoding.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from gateway import delivery_ids, members
from gateway.incoming import Incoming, Item, text_at

BATCH = "application/cloudevents-batch"
STRUCTURED = "application/cloudevents"
_PREFIX = "ce-"
_ESCAPED = re.compile(r"\\(.)")


def read(incoming: Incoming) -> list[Item]:
    """Read the events of a request, in the JSON format, with data that came as base64 of JSON or text read."""
    if incoming.media_type.startswith(BATCH):
        return [_event(event) for event in members.objects(incoming.document)]
    if incoming.media_type.startswith(STRUCTURED):
        return [_event(incoming.document)] if isinstance(incoming.document, dict) else []
    return [_event(_binary(incoming))] if "ce-specversion" in incoming.headers or "ce-id" in incoming.headers else []


def delivery_id(events: Sequence[Item]) -> str | None:
    """Return the id of a delivery of these events."""
    return delivery_ids.of_items("cloudevents", [event.id for event in events])


def permission(incoming: Incoming) -> Mapping[str, str]:
    """Answer a sender that asks with OPTIONS whether it may send; empty when that is not what was asked.

    Webhook specification, section 4: whoever knows the URL may send, and as fast as it asks for.
    """
    origin = incoming.headers.get("webhook-request-origin", "")
    if incoming.method != "OPTIONS" or not origin:
        return {}
    allowed = {"WebHook-Allowed-Origin": origin if re.fullmatch(r"[!-~]+", origin) else "*", "Allow": "OPTIONS, POST"}
    rate = incoming.headers.get("webhook-request-rate")
    if rate is not None:
        allowed["WebHook-Allowed-Rate"] = rate if re.fullmatch(r"[0-9]{1,9}", rate) else "*"
    return allowed


def header_text(value: str) -> str:
    """Read the value of a header as a sender meant it: quoted or not, in percent-encoding, UTF-8 or Latin-1."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    content = unquote_to_bytes(value.encode("latin-1", "replace"))
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _event(attributes: dict[str, Any]) -> Item:
    event_id, source = text_at(attributes, "id"), text_at(attributes, "source")
    return Item(
        payload=_with_data(attributes),
        id=delivery_ids.of_cloud_event(source, event_id) if event_id and source else None,
        event_type=text_at(attributes, "type"),
    )


def _binary(incoming: Incoming) -> dict[str, Any]:
    """Write an event whose attributes are headers and whose data is the body in the JSON format."""
    named = {
        name.removeprefix(_PREFIX): header_text(value)
        for name, value in incoming.headers.items()
        if name.startswith(_PREFIX)
    }
    if incoming.content_type:
        named["datacontenttype"] = incoming.content_type
    return named | {"data": incoming.document} if incoming.body else named


def _with_data(event: dict[str, Any]) -> dict[str, Any]:
    encoded = event.get("data_base64")
    if not isinstance(encoded, str):
        return event
    try:
        content = base64.b64decode(encoded.encode("utf-8", "replace"), validate=True)
    except binascii.Error:
        return event
    data = members.decoded(content, text_at(event, "datacontenttype") or "")
    if data is None:
        return event
    return {name: value for name, value in event.items() if name != "data_base64"} | {"data": data}
