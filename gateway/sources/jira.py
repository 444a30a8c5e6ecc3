"""Jira: signed when the webhook was registered by the API with a secret, otherwise with no proof but the URL's.

A webhook made on the settings page cannot sign; a secret in its URL, `?secret=`, is taken as well.
"""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.schemes.shared import SharedSecret
from gateway.sources import Facts, Incoming, Sample, Source


def _read(incoming: Incoming) -> Facts:
    identifier = incoming.headers.get("x-atlassian-webhook-identifier")
    return Facts(event_type=incoming.at("webhookEvent"), delivery_id=delivery_ids.named("jira", identifier))


source = Source(
    name="jira",
    title="Jira",
    schemes=(Hmac(header="X-Hub-Signature", prefix="sha256="), SharedSecret(query="secret")),
    is_optional=True,
    read=_read,
    setup=(
        "Settings > System > Webhooks > Create: the URL of a token, and the secret of the schedule if it asks for one. "
        "Without a secret the URL alone is the proof."
    ),
    dedupe="`X-Atlassian-Webhook-Identifier`",
    samples={
        "issue": Sample(
            headers={"content-type": "application/json", "x-atlassian-webhook-identifier": "{uuid}"},
            body=(
                b'{"timestamp": {unix}000, "webhookEvent": "jira:issue_created", '
                b'"issue": {"id": "10002", "key": "OPS-1", "fields": {"summary": "Disk is full"}}}'
            ),
        )
    },
)
