"""Twilio's callbacks for messages and calls, mostly forms; what it signs begins with the URL that it called."""

from gateway import delivery_ids
from gateway.schemes.twilio import Twilio
from gateway.sources import Facts, Incoming, Sample, Source

_STATES = (("MessageStatus", "message"), ("SmsStatus", "message"), ("CallStatus", "call"))


def _read(incoming: Incoming) -> Facts:
    states = ((kind, incoming.at(field)) for field, kind in _STATES)
    return Facts(
        event_type=next((f"{kind}.{state}" for kind, state in states if state), None),
        delivery_id=delivery_ids.named("twilio", incoming.headers.get("i-twilio-idempotency-token")),
    )


source = Source(
    name="twilio",
    title="Twilio",
    schemes=(Twilio(),),
    read=_read,
    setup=(
        "Put the URL of a token where Twilio asks for a webhook, and give the schedule the Auth Token of the account "
        "(or the shared key). PENSTOCK_PUBLIC_URL must be what Twilio calls: the URL is signed."
    ),
    dedupe="`I-Twilio-Idempotency-Token`",
    samples={
        "message": Sample(
            headers={"content-type": "application/x-www-form-urlencoded", "i-twilio-idempotency-token": "{uuid}"},
            body=b"MessageSid=SM1&SmsStatus=received&From=%2B14158675310&To=%2B18005551212&Body=run",
        )
    },
)
