"""Discord's webhook events: Ed25519 over time and body, with the public key of the application.

The PING that tests the URL wants exactly 204 and no body; Discord also tries a wrong signature and wants 401. It says
nothing about how old a time may be and tries again for up to ten minutes, so fifteen are allowed. Events have no id,
but each has its time: the same bytes are the same event.
"""

from gateway import delivery_ids
from gateway.schemes.ed25519 import Ed25519, check_public_key
from gateway.schemes.signed import SignedText
from gateway.sources import Facts, Handshake, Incoming, Reply, Sample, Source

_PING = "0"


def _read(incoming: Incoming) -> Facts:
    if incoming.at("type") == _PING:
        return Facts(event_type="PING", handshake=Handshake(kind="PING", reply=Reply(status=204)))
    return Facts(event_type=incoming.at("event", "type"), delivery_id=delivery_ids.of_body("discord", incoming.body))


source = Source(
    name="discord",
    title="Discord",
    schemes=(
        Ed25519(
            header="X-Signature-Ed25519",
            signed=SignedText(template="{timestamp}{body}", timestamp_header="X-Signature-Timestamp", tolerance_s=900),
        ),
    ),
    read=_read,
    check=check_public_key,
    setup=(
        "Developer portal > your app: give the schedule the Public Key of General Information as public_key, then put "
        "the URL of a token into Webhooks > Endpoint URL and save; Discord tests it at once."
    ),
    answer=Reply(status=204),
    dedupe="the body's hash",
    handshakes="type 0 (PING): 204",
    samples={
        "authorized": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"version": 1, "application_id": "1234560123453231555", "type": 1, "event": {'
                b'"type": "APPLICATION_AUTHORIZED", "timestamp": "{now}", "data": {"scopes": ["bot"]}}}'
            ),
        )
    },
)
