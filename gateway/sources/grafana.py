"""Grafana Alerting's webhook contact point.

grafana.com, "Configure the webhook notifier": the shape of Alertmanager and some more. Since version 12 it can sign
the body with HMAC-SHA256.
"""

from collections.abc import Sequence

from gateway import alerts, delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.schemes.shared import SharedSecret
from gateway.sources import Facts, Incoming, Item, Sample, Source


def _read(incoming: Incoming) -> Facts:
    status = incoming.at("status")
    return Facts(event_type=status, delivery_id=delivery_ids.of_body("grafana", incoming.body))


def _split(incoming: Incoming) -> Sequence[Item]:
    return alerts.read(incoming.document)


source = Source(
    name="grafana",
    title="Grafana Alerting",
    schemes=(Hmac(header="X-Grafana-Alerting-Signature"), SharedSecret(header="Authorization")),
    is_optional=True,
    read=_read,
    split=_split,
    setup=(
        "Add a contact point of type Webhook with the URL of a token, method POST, and a secret of the schedule:"
        " as authorization header credentials (scheme Bearer), as password of Basic, or as HMAC secret with no"
        " timestamp header."
    ),
    dedupe="the hash of the body; an item by fingerprint, start and status",
    samples={
        "firing": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"receiver":"penstock","status":"firing","orgId":1,"alerts":[{"status":"firing","labels":{"alertname":'
                b'"DiskFull"},"annotations":{},"startsAt":"2026-01-02T03:04:05Z","endsAt":"0001-01-01T00:00:00Z",'
                b'"generatorURL":"","fingerprint":"{uuid}","values":{"B":95}}],"groupLabels":{},"commonLabels":'
                b'{"alertname":"DiskFull"},"commonAnnotations":{},"externalURL":"http://grafana.example.com","version":'
                b'"1","groupKey":"{}:{}","truncatedAlerts":0,"title":"[FIRING:1] DiskFull","state":"alerting",'
                b'"message":"**Firing**"}'
            ),
        )
    },
)
