"""CloudEvents 1.0 over HTTP: binary, structured and in batches.

github.com/cloudevents/spec, HTTP protocol binding and webhook specification 1.0. 202 means accepted and not processed
yet; 429 and Retry-After slow a sender down; 410 makes it stop.
"""

from collections.abc import Sequence

from gateway import cloud_events
from gateway.schemes.shared import SharedSecret
from gateway.sources import Facts, Incoming, Item, Reply, Sample, Source
from schemas.schedules import SourceConfig


def _read(incoming: Incoming) -> Facts:
    events = cloud_events.read(incoming)
    event_type = events[0].event_type if events else None
    return Facts(event_type=event_type, delivery_id=cloud_events.delivery_id(events))


def _split(incoming: Incoming) -> Sequence[Item]:
    return cloud_events.read(incoming)


def _greet(incoming: Incoming, _config: SourceConfig) -> Reply | None:
    headers = cloud_events.permission(incoming)
    return Reply(headers=headers) if headers else None


source = Source(
    name="cloudevents",
    title="CloudEvents",
    schemes=(SharedSecret(header="Authorization", query="access_token"),),
    is_optional=True,
    read=_read,
    split=_split,
    greet=_greet,
    setup=(
        "Let the sender POST to the URL of a token, in any of the three modes; it may ask for permission with OPTIONS"
        " before. A secret of the schedule may come as `Authorization: Bearer` or as `?access_token=...`."
    ),
    dedupe="`source` and `id` of the events",
    handshakes="OPTIONS is answered with a permission",
    samples={
        "structured": Sample(
            headers={"content-type": "application/cloudevents+json; charset=utf-8"},
            body=(
                b'{"specversion":"1.0","type":"com.example.object.created","source":"/storage/incoming","id":"{uuid}",'
                b'"time":"2026-01-02T03:04:05Z","datacontenttype":"application/json","data":{"key":"orders.csv"}}'
            ),
        ),
        "binary": Sample(
            headers={
                "content-type": "application/json",
                "ce-specversion": "1.0",
                "ce-type": "com.example.object.created",
                "ce-source": "/storage/incoming",
                "ce-id": "{uuid}",
            },
            body=b'{"key":"orders.csv"}',
        ),
    },
)
