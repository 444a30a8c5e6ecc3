"""Shopify webhooks, and its newer events, which write the same headers without `X-`.

A delivery's id is the webhook id; the event id is shared by all subscriptions that one event reaches.
"""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.sources import Facts, Incoming, Sample, Source

_SIGNATURE = "Shopify-Hmac-SHA256"


def _read(incoming: Incoming) -> Facts:
    return Facts(
        event_type=_header(incoming, "shopify-topic"),
        delivery_id=delivery_ids.named("shopify", _header(incoming, "shopify-webhook-id")),
    )


def _header(incoming: Incoming, name: str) -> str | None:
    return incoming.headers.get(f"x-{name}") or incoming.headers.get(name)


source = Source(
    name="shopify",
    title="Shopify",
    schemes=(Hmac(header=f"X-{_SIGNATURE}", encoding="base64"), Hmac(header=_SIGNATURE, encoding="base64")),
    read=_read,
    setup=(
        "Subscribe to topics with the URL of a token (in shopify.app.toml, or Settings > Notifications > Webhooks), "
        "and give the schedule the client secret of the app, or the secret shown under Notifications."
    ),
    dedupe="`X-Shopify-Webhook-Id`",
    samples={
        "order": Sample(
            headers={
                "content-type": "application/json",
                "x-shopify-topic": "orders/create",
                "x-shopify-webhook-id": "{uuid}",
                "x-shopify-shop-domain": "example.myshopify.com",
                "x-shopify-api-version": "2026-01",
            },
            body=b'{"id": 820982911946154508, "email": "jon@example.com", "total_price": "409.94", "currency": "EUR"}',
        )
    },
)
