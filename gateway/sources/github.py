"""GitHub webhooks, JSON or form.

Signed are the raw bytes of the body, also of a form (docs.github.com, "Validating webhook deliveries"). A redelivery
has the same X-GitHub-Delivery; GitHub never retries by itself.
"""

from gateway import delivery_ids
from gateway.sources import Facts, Incoming, Source
from gateway.verification import check_hmac_sha256
from schemas.schedules import SourceConfig

SIGNATURE_HEADER = "X-Hub-Signature-256"


def _verify(incoming: Incoming, config: SourceConfig) -> None:
    check_hmac_sha256(
        incoming.headers.get(SIGNATURE_HEADER.lower()),
        incoming.body,
        secrets=config.secrets,
        header=SIGNATURE_HEADER,
        prefix="sha256=",
    )


def _read(incoming: Incoming) -> Facts:
    event_type = incoming.headers.get("x-github-event")
    return Facts(
        event_type=event_type,
        delivery_id=delivery_ids.find(incoming.headers, incoming.body),
        handshake="ping" if event_type == "ping" else None,
    )


source = Source(name="github", title="GitHub", needs_secret=True, verify=_verify, read=_read)
