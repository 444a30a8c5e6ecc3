"""S3 event records, which AWS, MinIO, Ceph and emulators write alike, except for how they spell a key.

AWS and MinIO encode keys as forms do (`red+flower`), Ceph writes them as they are (docs.aws.amazon.com, "Event message
structure"; docs.ceph.com, "Bucket Notifications").
"""

from typing import Any
from urllib.parse import unquote_plus

from gateway import delivery_ids, members
from gateway.incoming import Item, text_at

TEST_EVENT = "s3:TestEvent"


def read(document: Any) -> list[Item]:
    """Read the records of an S3 event, each with its true key beside it as `s3.object.decodedKey`; else none."""
    return [_read(record) for record in members.objects(document, "Records") if members.find(record, "s3", "object")]


def event_type(records: list[Item]) -> str | None:
    """Name what happened, of several the first."""
    return records[0].event_type if records else None


def delivery_id(records: list[Item]) -> str | None:
    """Make the id of a delivery of these records."""
    return delivery_ids.of_items("s3", [record.id for record in records])


def _read(record: dict[str, Any]) -> Item:
    name = text_at(record, "eventName")
    name = name.removeprefix("s3:") if name else None  # MinIO and Ceph write the prefix, AWS does not
    return Item(payload=_with_key(record), id=_id(record, name), event_type=name)


def _with_key(record: dict[str, Any]) -> dict[str, Any]:
    key = text_at(record, "s3", "object", "key")
    if key is None:
        return record
    decoded = key if record.get("eventSource") == "ceph:s3" else unquote_plus(key)
    return record | {"s3": record["s3"] | {"object": record["s3"]["object"] | {"decodedKey": decoded}}}


def _id(record: dict[str, Any], name: str | None) -> str | None:
    """Ceph names each event; others give each change of a key a sequencer, or at least the request that made it.

    Emulators give the same sequencer to all: the time of the event tells them apart, and stays when it is told again.
    """
    if found := text_at(record, "eventId"):
        return f"s3:{found}"
    change = text_at(record, "s3", "object", "sequencer") or text_at(record, "responseElements", "x-amz-request-id")
    key, bucket = text_at(record, "s3", "object", "key"), text_at(record, "s3", "bucket", "name") or ""
    time = text_at(record, "eventTime") or ""
    return f"s3:{name}:{bucket}/{key}:{change}:{time}" if name and key and change else None
