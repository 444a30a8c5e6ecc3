"""Svix: Standard Webhooks with `svix-` before the headers; applications may use either."""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac, check_keys
from gateway.schemes.signed import SignedText
from gateway.sources import Facts, Incoming, Sample, Source
from schemas.schedules import SourceConfig


def _scheme(family: str) -> Hmac:
    return Hmac(
        header=f"{family}-signature",
        prefix="v1,",
        separator=" ",
        signed=SignedText(
            template="{id}.{timestamp}.{body}", id_header=f"{family}-id", timestamp_header=f"{family}-timestamp"
        ),
        encoding="base64",
        key="base64",
    )


def _read(incoming: Incoming) -> Facts:
    headers = incoming.headers
    return Facts(
        event_type=incoming.at("type") or incoming.at("eventType"),
        delivery_id=delivery_ids.named("webhook", headers.get("svix-id"), headers.get("webhook-id")),
    )


def _check(config: SourceConfig) -> None:
    check_keys(config, "base64")


source = Source(
    name="svix",
    title="Svix",
    schemes=(_scheme("svix"), _scheme("webhook")),
    read=_read,
    check=_check,
    setup="Add an endpoint with the URL of a token, and give the schedule its signing secret (whsec_...).",
    dedupe="`svix-id` or `webhook-id`",
    samples={
        "invoice": Sample(
            headers={"content-type": "application/json", "svix-id": "msg_{uuid}"},
            body=b'{"type": "invoice.paid", "timestamp": "{now}", "data": {"id": "in_1", "amount": 2000}}',
        )
    },
)
