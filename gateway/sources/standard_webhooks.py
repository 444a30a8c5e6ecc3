"""Standard Webhooks 1.0.0: `v1` with a shared key, `v1a` with a public one, several of each in one header.

The same headers sign a fired callback of our own, so that one Penstock can start another.
"""

from gateway import delivery_ids
from gateway.schemes.ed25519 import Ed25519, check_public_key
from gateway.schemes.hmacs import Hmac, check_keys
from gateway.schemes.signed import SignedText
from gateway.sources import Facts, Incoming, Sample, Source
from schemas.schedules import SourceConfig

_HEADER = "webhook-signature"
_SIGNED = SignedText(template="{id}.{timestamp}.{body}", id_header="webhook-id", timestamp_header="webhook-timestamp")


def _read(incoming: Incoming) -> Facts:
    return Facts(event_type=incoming.at("type"), delivery_id=delivery_ids.find(incoming.headers, incoming.body))


def _check(config: SourceConfig) -> None:
    check_keys(config, "base64")
    check_public_key(config)


source = Source(
    name="standard_webhooks",
    title="Standard Webhooks",
    schemes=(
        Ed25519(header=_HEADER, prefix="v1a,", separator=" ", signed=_SIGNED, encoding="base64"),
        Hmac(header=_HEADER, prefix="v1,", separator=" ", signed=_SIGNED, encoding="base64", key="base64"),
    ),
    read=_read,
    check=_check,
    setup="The URL of a token; the schedule gets its secret (whsec_...) or public key (whpk_...).",
    dedupe="`webhook-id`",
    samples={
        "invoice": Sample(
            headers={"content-type": "application/json", "webhook-id": "msg_{uuid}"},
            body=b'{"type": "invoice.paid", "timestamp": "{now}", "data": {"id": "in_1", "amount": 2000}}',
        )
    },
)
