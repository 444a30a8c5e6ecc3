"""Prometheus Alertmanager's webhook receiver.

prometheus.io, "webhook_config", payload version 4. It names no delivery, but repeats an unanswered one byte for byte.
A 5xx is repeated at once; any 4xx, also 429, and 3xx only with the group's next turn, when the alert may be over.
"""

from collections.abc import Sequence

from gateway import alerts, delivery_ids
from gateway.schemes.shared import SharedSecret
from gateway.sources import Facts, Incoming, Item, Sample, Source


def _read(incoming: Incoming) -> Facts:
    status = incoming.at("status")
    return Facts(event_type=status, delivery_id=delivery_ids.of_body("alertmanager", incoming.body))


def _split(incoming: Incoming) -> Sequence[Item]:
    return alerts.read(incoming.document)


source = Source(
    name="alertmanager",
    title="Prometheus Alertmanager",
    schemes=(SharedSecret(header="Authorization"),),
    is_optional=True,
    read=_read,
    split=_split,
    setup=(
        "Add a receiver with `webhook_configs: [{url: URL, http_config: {authorization: {credentials: SECRET}}}]`, the"
        " URL being that of a token; `basic_auth` with the secret as password works too. A reminder"
        " (`repeat_interval`) with nothing new in it counts as a duplicate."
    ),
    dedupe="the hash of the body; an item by fingerprint, start and status",
    samples={
        "firing": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"receiver":"penstock","status":"firing","alerts":[{"status":"firing","labels":{"alertname":'
                b'"DiskFull","instance":"db-1"},"annotations":{"summary":"95 % used"},"startsAt":'
                b'"2026-01-02T03:04:05Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"","fingerprint":"{uuid}"}],'
                b'"groupLabels":{"alertname":"DiskFull"},"commonLabels":{"alertname":"DiskFull","instance":"db-1"},'
                b'"commonAnnotations":{"summary":"95 % used"},"externalURL":"http://alertmanager.example.com",'
                b'"version":"4","groupKey":"{}:{alertname=\\"DiskFull\\"}","truncatedAlerts":0}'
            ),
        )
    },
)
