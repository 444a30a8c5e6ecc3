"""MinIO's webhook target for bucket events.

min.io, "Publish events to webhook". Before it sends, it may ask with HEAD whether somebody is there. Keys are encoded
as forms encode them, names of events begin with `s3:`. With a queue directory it repeats until a 2xx, else never.
"""

from collections.abc import Sequence

from gateway import s3_records
from gateway.schemes.shared import SharedSecret
from gateway.sources import Facts, Incoming, Item, Reply, Sample, Source
from schemas.schedules import SourceConfig


def _read(incoming: Incoming) -> Facts:
    records = s3_records.read(incoming.document)
    name = incoming.at("EventName")
    event_type = name.removeprefix("s3:") if name else s3_records.event_type(records)
    return Facts(event_type=event_type, delivery_id=s3_records.delivery_id(records))


def _split(incoming: Incoming) -> Sequence[Item]:
    return s3_records.read(incoming.document)


def _greet(incoming: Incoming, _config: SourceConfig) -> Reply | None:
    return Reply() if incoming.method == "HEAD" else None


source = Source(
    name="minio",
    title="MinIO bucket notifications",
    schemes=(SharedSecret(header="Authorization"),),
    is_optional=True,
    read=_read,
    split=_split,
    greet=_greet,
    setup=(
        "`mc admin config set ALIAS notify_webhook:penstock endpoint=URL auth_token=SECRET queue_dir=DIR`, restart,"
        " then `mc event add ALIAS/BUCKET arn:minio:sqs::penstock:webhook`. Without `queue_dir` an event is lost when"
        " it cannot be delivered at once."
    ),
    dedupe="`sequencer`, key and event of the records",
    handshakes="HEAD is answered 200",
    samples={
        "object_created": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"EventName":"s3:ObjectCreated:Put","Key":"incoming/2026/red flower.csv","Records":[{"eventVersion":'
                b'"2.0","eventSource":"minio:s3","eventTime":"2026-01-02T03:04:05.000Z","eventName":'
                b'"s3:ObjectCreated:Put","s3":{"s3SchemaVersion":"1.0","bucket":{"name":"incoming"},"object":{"key":'
                b'"2026%2Fred+flower.csv","size":1024,"sequencer":"{uuid}"}}}]}'
            ),
        )
    },
)
