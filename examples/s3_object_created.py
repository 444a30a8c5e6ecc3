"""React to new objects in a bucket: an S3 event notification holds one or more records, each about one object.

MinIO and Ceph POST it themselves; Amazon S3 needs something between that does, a Lambda function for example. Keys in
notifications are URL-encoded, with `+` for a space (docs.aws.amazon.com, "Event message structure").
"""

from typing import Any
from urllib.parse import unquote_plus

import msgspec

from runner import Run, pipeline


class Params(msgspec.Struct):
    """What a schedule may set."""

    suffix: str = ".csv"


s3_object_created = pipeline("s3_object_created", params=Params, max_active_runs=4)


@s3_object_created.block
def objects(run: Run[Params]) -> list[dict[str, Any]]:
    """List the new objects that are of interest, with their keys decoded."""
    records = run.event_variables.get("Records", [])
    found = [
        {
            "bucket": record["s3"]["bucket"]["name"],
            "key": unquote_plus(record["s3"]["object"]["key"]),
            "size": record["s3"]["object"].get("size", 0),
        }
        for record in records
        if record["eventName"].startswith(("ObjectCreated:", "s3:ObjectCreated:"))
    ]
    return [entry for entry in found if entry["key"].endswith(run.params.suffix)]


@s3_object_created.block(retries=3, timeout=60)
async def load(run: Run[Params], objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Load each object; here only its reference, which is what a payload should carry."""
    for entry in objects:
        run.log.info("loading", bucket=entry["bucket"], key=entry["key"], bytes=entry["size"])
    return [entry | {"loaded": True} for entry in objects]


@s3_object_created.block
def summary(load: list[dict[str, Any]]) -> dict[str, int]:
    """Add up what was loaded."""
    return {"objects": len(load), "bytes": sum(entry["size"] for entry in load)}
