"""Stripe events, also thin ones: `t=` and one or more `v1=` in one header; `v0` is a fake for tests, and ignored.

The key is the text of the signing secret, `whsec_` included (stripe-python, _webhook.py). Its library takes any time in
the future; we do not.
"""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.schemes.signed import SignedText
from gateway.sources import Facts, Incoming, Sample, Source


def _read(incoming: Incoming) -> Facts:
    return Facts(event_type=incoming.at("type"), delivery_id=delivery_ids.named("stripe", incoming.at("id")))


source = Source(
    name="stripe",
    title="Stripe",
    schemes=(
        Hmac(
            header="Stripe-Signature",
            prefix="v1=",
            separator=",",
            signed=SignedText(template="{timestamp}.{body}", timestamp_part="t="),
        ),
    ),
    read=_read,
    setup=(
        "Developers > Webhooks > Add destination > Webhook endpoint: the URL of a token; then give the schedule the "
        "signing secret (whsec_...) that Stripe shows."
    ),
    dedupe="`id` of the event",
    samples={
        "payment": Sample(
            headers={"content-type": "application/json; charset=utf-8"},
            body=(
                b'{"id": "evt_{uuid}", "object": "event", "type": "payment_intent.succeeded", "created": {unix}, '
                b'"data": {"object": {"id": "pi_1", "object": "payment_intent", "amount": 2000, "currency": "eur"}}}'
            ),
        )
    },
)
