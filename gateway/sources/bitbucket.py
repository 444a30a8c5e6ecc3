"""Bitbucket Cloud and Data Center: X-Hub-Signature without a suffix, and SHA-256 all the same.

Cloud names a delivery by X-Request-UUID, Data Center by X-Request-Id.
"""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.sources import Facts, Handshake, Incoming, Sample, Source

_TEST = "diagnostics:ping"  # what "Test connection" of Data Center sends


def _read(incoming: Incoming) -> Facts:
    headers, event_type = incoming.headers, incoming.headers.get("x-event-key")
    return Facts(
        event_type=event_type,
        delivery_id=delivery_ids.named("bitbucket", headers.get("x-request-uuid"), headers.get("x-request-id")),
        handshake=Handshake(kind=_TEST) if event_type == _TEST else None,
    )


source = Source(
    name="bitbucket",
    title="Bitbucket",
    schemes=(Hmac(header="X-Hub-Signature", prefix="sha256="),),
    read=_read,
    setup=(
        "Repository settings > Webhooks > Add webhook: the URL of a token, and the secret of the schedule. The "
        "Test connection of Data Center may come unsigned, and then gets 401."
    ),
    dedupe="`X-Request-UUID`, `X-Request-Id`",
    handshakes=f"`{_TEST}`",
    samples={
        "push": Sample(
            headers={"content-type": "application/json", "x-event-key": "repo:push", "x-request-uuid": "{uuid}"},
            body=b'{"push": {"changes": []}, "repository": {"full_name": "team/repo"}}',
        )
    },
)
