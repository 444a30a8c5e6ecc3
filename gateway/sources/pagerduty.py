"""PagerDuty webhooks v3: one `v1=` for each live secret of theirs, over the body alone."""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.sources import Facts, Handshake, Incoming, Sample, Source

_TEST = "pagey.ping"


def _read(incoming: Incoming) -> Facts:
    event_type = incoming.at("event", "event_type")
    return Facts(
        event_type=event_type,
        delivery_id=delivery_ids.named("pagerduty", incoming.headers.get("x-webhook-id"), incoming.at("event", "id")),
        handshake=Handshake(kind=_TEST) if event_type == _TEST else None,
    )


source = Source(
    name="pagerduty",
    title="PagerDuty",
    schemes=(Hmac(header="X-PagerDuty-Signature", prefix="v1=", separator=","),),
    read=_read,
    setup=(
        "Integrations > Generic Webhooks (v3) > New Webhook: the URL of a token; then give the schedule the signing "
        "secret that is shown once."
    ),
    dedupe="`X-Webhook-Id`",
    handshakes=f"`{_TEST}`",
    samples={
        "incident": Sample(
            headers={"content-type": "application/json", "x-webhook-id": "{uuid}"},
            body=(
                b'{"event": {"id": "{uuid}", "event_type": "incident.triggered", "resource_type": "incident", '
                b'"occurred_at": "{now}", "data": {"id": "PGR0VU2", "type": "incident", "title": "Disk is full"}}}'
            ),
        )
    },
)
