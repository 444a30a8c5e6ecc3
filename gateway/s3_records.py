"""S3 event records, which AWS, MinIO, Ceph and emulators write alike, except for how they spell a key.

AWS and MinIO encode keys as forms do (`red+flower`), Ceph writes them as they are (docs.aws.amazon.com, "Event message
structure"; docs.ceph.com, "Bucket Notifications").
"""

from typing import Any
from urllib.parse import unquote_plus

import msgspec

from gateway import delivery_ids, members
from gateway.incoming import text_at

TEST_EVENT = "s3:TestEvent"


class S3Record(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one object; `payload` is the record with the true key beside it, as `s3.object.decodedKey`."""

    payload: dict[str, Any]
    id: str | None
    event_type: str | None


def read(document: Any) -> list[S3Record]:
    """Read the records of a document; none when it is no S3 event."""
    return [_read(record) for record in members.objects(document, "Records") if members.find(record, "s3", "object")]


def event_type(records: list[S3Record]) -> str | None:
    """Name what happened, of several the first."""
    return records[0].event_type if records else None


def delivery_id(records: list[S3Record]) -> str | None:
    """Make the id of a delivery of these records."""
    return delivery_ids.of_items("s3", [record.id for record in records])


def _read(record: dict[str, Any]) -> S3Record:
    name = text_at(record, "eventName")
    name = name.removeprefix("s3:") if name else None  # MinIO and Ceph write the prefix, AWS does not
    key = _key(record)
    return S3Record(payload=_with_key(record, key), id=_id(record, name, key), event_type=name)


def _key(record: dict[str, Any]) -> str | None:
    key = text_at(record, "s3", "object", "key")
    if key is None or record.get("eventSource") == "ceph:s3":
        return key
    return unquote_plus(key)


def _with_key(record: dict[str, Any], key: str | None) -> dict[str, Any]:
    described = members.find(record, "s3", "object")
    if key is None or not isinstance(described, dict):
        return record
    return record | {"s3": record["s3"] | {"object": described | {"decodedKey": key}}}


def _id(record: dict[str, Any], name: str | None, key: str | None) -> str | None:
    """Ceph names each event; others give each change of a key a sequencer, or at least the request that made it.

    Emulators give the same sequencer to all: the time of the event tells them apart, and stays when it is told again.
    """
    if found := text_at(record, "eventId"):
        return f"s3:{found}"
    change = text_at(record, "s3", "object", "sequencer") or text_at(record, "responseElements", "x-amz-request-id")
    bucket, time = text_at(record, "s3", "bucket", "name") or "", text_at(record, "eventTime") or ""
    return f"s3:{name}:{bucket}/{key}:{change}:{time}" if name and key and change else None
