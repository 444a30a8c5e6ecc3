"""Bucket notifications of the Ceph Object Gateway.

docs.ceph.com, "Bucket Notifications". It knows no header for a secret, so the token in the URL is the proof. Keys are
written as they are. Without persistence the client's PUT waits for our answer and an event is sent once; with it, it
is repeated without a pause until a 2xx, under the same eventId.
"""

from collections.abc import Sequence

from gateway import s3_records
from gateway.sources import Facts, Incoming, Item, Sample, Source


def _read(incoming: Incoming) -> Facts:
    records = s3_records.read(incoming.document)
    return Facts(event_type=s3_records.event_type(records), delivery_id=s3_records.delivery_id(records))


def _split(incoming: Incoming) -> Sequence[Item]:
    return s3_records.read(incoming.document)


source = Source(
    name="ceph",
    title="Ceph Object Gateway bucket notifications",
    read=_read,
    split=_split,
    setup=(
        "Create a topic with `push-endpoint=URL&persistent=true`, the URL being that of a token, and name the topic in"
        " the bucket's notification configuration. Without `persistent` every PUT waits for us, and an event that"
        " cannot be delivered is lost."
    ),
    dedupe="`eventId` of the records",
    samples={
        "object_created": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"Records":[{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":"default","eventTime":'
                b'"2026-01-02T03:04:05.000000Z","eventName":"ObjectCreated:Put","s3":{"s3SchemaVersion":"1.0","bucket":'
                b'{"name":"incoming"},"object":{"key":"2026/red flower.csv","size":1024,"sequencer":"51C85669F6A1B72D"'
                b'}},"eventId":"{uuid}","opaqueData":""}]}'
            ),
        )
    },
)
