"""Azure Event Grid, in its own schema or that of CloudEvents.

learn.microsoft.com, "Webhook event delivery" and "Delivery and retry": 200 to 204 within 30 s acknowledge; a handshake
must be answered with exactly 200. 400 and 413 are never repeated, all else is, up to 24 hours. Events come as a list
of up to 5000.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway import cloud_events, delivery_ids, members
from gateway.incoming import text_at
from gateway.schemes.shared import SharedSecret
from gateway.sources import Facts, Handshake, Incoming, Item, Reply, Sample, Source
from schemas.schedules import SourceConfig

_VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
_DELETION = "Microsoft.EventGrid.SubscriptionDeletedEvent"


def _read(incoming: Incoming) -> Facts:
    if found := cloud_events.read(incoming):
        return Facts(event_type=found[0].event_type, delivery_id=cloud_events.delivery_id(found))
    events = members.objects(incoming.document)
    event_type = text_at(events[0], "eventType") if events else None
    delivery_id = delivery_ids.of_items("eventgrid", [_id(event) for event in events])
    return Facts(event_type=event_type, delivery_id=delivery_id, handshake=_handshake(event_type, events))


def _handshake(event_type: str | None, events: Sequence[dict[str, Any]]) -> Handshake | None:
    if event_type == _DELETION:
        return Handshake(kind="SubscriptionDeletion")
    if event_type != _VALIDATION:
        return None
    code = text_at(events[0], "data", "validationCode")
    reply = Reply(body=msgspec.json.encode({"validationResponse": code})) if code else None
    return Handshake(kind="SubscriptionValidation", reply=reply)


def _split(incoming: Incoming) -> Sequence[Item]:
    if events := cloud_events.read(incoming):
        return events
    return [
        Item(payload=event, id=_id(event), event_type=text_at(event, "eventType"))
        for event in members.objects(incoming.document)
    ]


def _greet(incoming: Incoming, _config: SourceConfig) -> Reply | None:
    headers = cloud_events.permission(incoming)
    return Reply(headers=headers) if headers else None


def _id(event: dict[str, Any]) -> str | None:
    """Ids are unique within their topic."""
    event_id = text_at(event, "id")
    return f"eventgrid:{text_at(event, 'topic') or ''}\n{event_id}" if event_id else None


source = Source(
    name="eventgrid",
    title="Azure Event Grid",
    schemes=(SharedSecret(header="Authorization", query="secret"),),
    is_optional=True,
    read=_read,
    split=_split,
    greet=_greet,
    setup=(
        "Create an event subscription with endpoint type Web Hook and the URL of a token: it is validated by itself. A"
        " secret of the schedule may come as `?secret=...` behind it, or as delivery property `Authorization`. Both"
        " the Event Grid schema and CloudEvents 1.0 are read."
    ),
    dedupe="`topic` and `id` of the events",
    handshakes="`SubscriptionValidation` is answered with its code; CloudEvents' OPTIONS",
    samples={
        "blob_created": Sample(
            headers={"content-type": "application/json; charset=utf-8", "aeg-event-type": "Notification"},
            body=(
                b'[{"id":"{uuid}","topic":"/subscriptions/0/resourceGroups/example/providers/Microsoft.Storage/'
                b'storageAccounts/example","subject":"/blobServices/default/containers/incoming/blobs/orders.csv",'
                b'"eventType":"Microsoft.Storage.BlobCreated","eventTime":"2026-01-02T03:04:05.678Z","dataVersion":"",'
                b'"metadataVersion":"1","data":{"api":"PutBlob","contentType":"text/csv","contentLength":1024}}]'
            ),
        )
    },
)
