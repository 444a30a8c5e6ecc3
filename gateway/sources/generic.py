"""Any system that can POST: the token is the proof."""

from collections.abc import Iterator

from gateway import delivery_ids
from gateway.sources import Facts, Incoming, Item, Sample, Source


def _read(incoming: Incoming) -> Facts:
    return Facts(
        event_type=incoming.headers.get("ce-type"), delivery_id=delivery_ids.find(incoming.headers, incoming.body)
    )


def _split(incoming: Incoming) -> Iterator[Item]:
    document = incoming.document
    return (Item(payload=element) for element in (document if isinstance(document, list) else [document]))


source = Source(
    name="generic",
    title="Any system that can POST",
    read=_read,
    split=_split,
    setup="POST to the URL of a token, or send the token as `Authorization: Bearer` or `X-Penstock-Token`.",
    dedupe="`webhook-id`, `X-GitHub-Delivery`, `Idempotency-Key`, a CloudEvent's source and id",
    samples={
        "order": Sample(
            headers={"content-type": "application/json", "idempotency-key": "{uuid}"},
            body=b'{"order": 4711, "state": "paid"}',
        )
    },
)
