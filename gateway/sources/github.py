"""GitHub webhooks, JSON or form.

Signed are the raw bytes of the body, also of a form (docs.github.com, "Validating webhook deliveries"). A redelivery
has the same X-GitHub-Delivery; GitHub never retries by itself.
"""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.sources import Facts, Handshake, Incoming, Sample, Source


def _read(incoming: Incoming) -> Facts:
    event_type = incoming.headers.get("x-github-event")
    return Facts(
        event_type=event_type,
        delivery_id=delivery_ids.find(incoming.headers, incoming.body),
        handshake=Handshake(kind="ping") if event_type == "ping" else None,
    )


source = Source(
    name="github",
    title="GitHub",
    schemes=(Hmac(header="X-Hub-Signature-256", prefix="sha256="),),
    read=_read,
    setup="Settings > Webhooks > Add webhook: the URL of a token as Payload URL, and the secret of the schedule.",
    dedupe="`X-GitHub-Delivery`",
    handshakes="`ping`",
    samples={
        "push": Sample(
            headers={"content-type": "application/json", "x-github-event": "push", "x-github-delivery": "{uuid}"},
            body=b'{"ref": "refs/heads/main", "repository": {"full_name": "octo-org/octo-repo"}, "commits": []}',
        )
    },
)
