"""Forgejo webhooks: a bare hex HMAC of the JSON, also when that comes in a form's field or in a GET's query.

The header is there, and empty, when the webhook has no secret. The event type is the normalised one: GitHub's words.
"""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.schemes.signed import SignedText
from gateway.sources import Facts, Incoming, Sample, Source
from schemas.schedules import SourceConfig


def _read(incoming: Incoming) -> Facts:
    return Facts(
        event_type=incoming.headers.get("x-forgejo-event"),
        delivery_id=delivery_ids.named("forgejo", incoming.headers.get("x-forgejo-delivery")),
    )


def _greet(incoming: Incoming, _config: SourceConfig) -> Incoming | None:
    return incoming.posted_from("payload")


source = Source(
    name="forgejo",
    title="Forgejo",
    schemes=(Hmac(header="X-Forgejo-Signature", signed=SignedText(form_field="payload")),),
    read=_read,
    greet=_greet,
    setup="Settings > Webhooks > Add webhook > Forgejo: the URL of a token, and the secret of the schedule.",
    dedupe="`X-Forgejo-Delivery`",
    samples={
        "push": Sample(
            headers={"content-type": "application/json", "x-forgejo-event": "push", "x-forgejo-delivery": "{uuid}"},
            body=b'{"ref": "refs/heads/main", "repository": {"full_name": "team/repo"}, "commits": []}',
        )
    },
)
