"""Linear: a bare hex HMAC of the body, whose `webhookTimestamp` (ms) must be within a minute of now."""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.schemes.signed import SignedText
from gateway.sources import Facts, Incoming, Sample, Source


def _read(incoming: Incoming) -> Facts:
    kind = incoming.headers.get("linear-event") or incoming.at("type")
    action = incoming.at("action")
    return Facts(
        event_type=f"{kind}.{action}" if kind and action else kind,
        delivery_id=delivery_ids.named("linear", incoming.headers.get("linear-delivery")),
    )


source = Source(
    name="linear",
    title="Linear",
    schemes=(Hmac(header="Linear-Signature", signed=SignedText(timestamp_field="webhookTimestamp", tolerance_s=60)),),
    read=_read,
    setup="Settings > API > New webhook: the URL of a token; then give the schedule the signing secret that is shown.",
    dedupe="`Linear-Delivery`",
    samples={
        "issue": Sample(
            headers={"content-type": "application/json", "linear-event": "Issue", "linear-delivery": "{uuid}"},
            body=(
                b'{"action": "create", "type": "Issue", "createdAt": "{now}", "webhookTimestamp": {unix}000, '
                b'"data": {"id": "2174add1-f7c8-44e3-bbf3-2d60b5ea8bc9", "title": "Disk is full", "priority": 1}}'
            ),
        )
    },
)
