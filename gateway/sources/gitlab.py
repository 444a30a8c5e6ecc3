"""GitLab webhooks: a signing token (Standard Webhooks, GitLab 19.0) or the older secret token, which is only repeated.

Where a signature came it must be right: there is no falling back to the token. X-Gitlab-Event-UUID is the same for all
webhooks that one happening sets off, also recursive ones, so it names a delivery only together with the body
(docs.gitlab.com, "Webhooks").
"""

from gateway import delivery_ids
from gateway.schemes.checks import check_secrets
from gateway.schemes.hmacs import Hmac, read_key
from gateway.schemes.shared import SharedSecret
from gateway.schemes.signed import SignedText
from gateway.sources import Facts, Incoming, Sample, Source
from schemas.schedules import SourceConfig

_STANDARD = SignedText(template="{id}.{timestamp}.{body}", id_header="webhook-id", timestamp_header="webhook-timestamp")


def _read(incoming: Incoming) -> Facts:
    headers = incoming.headers
    delivery_id = delivery_ids.named("gitlab", headers.get("webhook-id"), headers.get("idempotency-key"))
    if not delivery_id and (happening := headers.get("x-gitlab-event-uuid")):
        delivery_id = delivery_ids.of_body(f"gitlab:{happening}", incoming.body)
    return Facts(event_type=headers.get("x-gitlab-event") or incoming.at("object_kind"), delivery_id=delivery_id)


def _check(config: SourceConfig) -> None:
    message = "begins as a signing token does, but no base64 follows"
    check_secrets(config, lambda text: not text.startswith("whsec_") or read_key(text, "whsec") is not None, message)


source = Source(
    name="gitlab",
    title="GitLab",
    schemes=(
        Hmac(
            header="webhook-signature",
            prefix="v1,",
            separator=" ",
            signed=_STANDARD,
            encoding="base64",
            key="whsec",
        ),
        SharedSecret(header="X-Gitlab-Token"),
    ),
    read=_read,
    check=_check,
    setup=(
        "Settings > Webhooks > Add new webhook: the URL of a token, and a signing token (whsec_...) or a secret token; "
        "give the schedule whichever you set, or both."
    ),
    dedupe="`webhook-id`, `Idempotency-Key`, or `X-Gitlab-Event-UUID` with the body",
    samples={
        "push": Sample(
            headers={
                "content-type": "application/json",
                "x-gitlab-event": "Push Hook",
                "idempotency-key": "{uuid}",
                "webhook-id": "{uuid}",
            },
            body=b'{"object_kind": "push", "ref": "refs/heads/main", "project": {"path_with_namespace": "mike/app"}}',
        )
    },
)
