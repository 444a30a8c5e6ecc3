"""S3 event notifications that an emulator or a relay posts as they are; Amazon itself sends them through others.

docs.aws.amazon.com, "Event message structure". The same change may be told twice: its sequencer tells.
"""

from collections.abc import Sequence

from gateway import s3_records
from gateway.schemes.shared import SharedSecret
from gateway.sources import Facts, Handshake, Incoming, Item, Sample, Source


def _read(incoming: Incoming) -> Facts:
    if incoming.at("Event") == s3_records.TEST_EVENT:
        return Facts(event_type=s3_records.TEST_EVENT, handshake=Handshake(kind=s3_records.TEST_EVENT))
    records = s3_records.read(incoming.document)
    return Facts(event_type=s3_records.event_type(records), delivery_id=s3_records.delivery_id(records))


def _split(incoming: Incoming) -> Sequence[Item]:
    return s3_records.read(incoming.document)


source = Source(
    name="s3",
    title="S3 event notifications",
    schemes=(SharedSecret(header="Authorization"),),
    is_optional=True,
    read=_read,
    split=_split,
    setup=(
        "Amazon S3 sends its events through SNS, SQS, Lambda or EventBridge: use source `sns` or `eventbridge` there."
        " A relay or an emulator posts the event to the URL of a token, with a secret of the schedule as"
        " `Authorization: Bearer` if it has one."
    ),
    dedupe="`sequencer`, key and event of the records",
    handshakes="`s3:TestEvent`",
    samples={
        "object_created": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"eu-central-1",'
                b'"eventTime":"2026-01-02T03:04:05.000Z","eventName":"ObjectCreated:Put","s3":{"s3SchemaVersion":"1.0",'
                b'"bucket":{"name":"incoming","arn":"arn:aws:s3:::incoming"},"object":{"key":"2026/red+flower.csv",'
                b'"size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e","sequencer":"{uuid}"}}}]}'
            ),
        )
    },
)
