"""Amazon SNS over HTTP or HTTPS, signed by Amazon, or raw with a secret of ours.

docs.aws.amazon.com, "Fanout to HTTP/S endpoints". SNS takes a 4xx for an acceptance and never sends again; a 5xx or no
answer within 15 s it repeats, 3 times unless the policy says more. JSON comes labelled text/plain.
"""

from collections.abc import Sequence
from typing import Any

from gateway import delivery_ids, members, s3_records
from gateway.incoming import text_at
from gateway.schemes.shared import SharedSecret
from gateway.schemes.sns import RAW_DELIVERY, SnsSignature
from gateway.sources import Facts, Handshake, Incoming, Item, Sample, Source

_CONFIRMATIONS = {"SubscriptionConfirmation", "UnsubscribeConfirmation"}


def _read(incoming: Incoming) -> Facts:
    if RAW_DELIVERY in incoming.headers:
        return _of_message(incoming.document, incoming.headers.get("x-amz-sns-message-id"))
    kind, message_id = incoming.at("Type"), incoming.at("MessageId")
    if kind not in _CONFIRMATIONS:
        return _of_message(_message(incoming), message_id)
    # Visiting the SubscribeURL of an UnsubscribeConfirmation would subscribe again.
    visit = incoming.at("SubscribeURL") if kind == "SubscriptionConfirmation" else None
    return Facts(event_type=kind, delivery_id=_id(message_id), handshake=Handshake(kind=kind, visit=visit))


def _of_message(message: Any, message_id: str | None) -> Facts:
    if text_at(message, "Event") == s3_records.TEST_EVENT:
        handshake = Handshake(kind=s3_records.TEST_EVENT)
        return Facts(event_type=s3_records.TEST_EVENT, delivery_id=_id(message_id), handshake=handshake)
    event_type = s3_records.event_type(s3_records.read(message)) or "Notification"
    return Facts(event_type=event_type, delivery_id=_id(message_id))


def _split(incoming: Incoming) -> Sequence[Item]:
    """An S3 event gives its records; any other message is one item, read as if it had come by itself."""
    message = incoming.document if RAW_DELIVERY in incoming.headers else _message(incoming)
    if records := s3_records.read(message):
        return records
    facts = _read(incoming)
    return [Item(payload=message, id=facts.delivery_id, event_type=facts.event_type)]


def _message(incoming: Incoming) -> Any:
    found = members.find(incoming.document, "Message")
    return members.decoded(found.encode("utf-8", "replace")) if isinstance(found, str) else None


def _id(message_id: str | None) -> str | None:
    return delivery_ids.named("sns", message_id)


source = Source(
    name="sns",
    title="Amazon SNS",
    schemes=(SnsSignature(), SharedSecret(header="Authorization", query="secret")),
    read=_read,
    split=_split,
    setup=(
        "Create a subscription of protocol HTTPS with the URL of a token as endpoint: it is confirmed by itself. Name"
        " the topic's ARN in `topics` of the schedule, else a topic of anybody who learns the URL counts. Raw message"
        " delivery is not signed: leave it off, or set a secret and add `?secret=...` to the endpoint. With"
        " `certificate_hosts` (such as `localhost:4566`) an emulator is believed in place of Amazon."
    ),
    dedupe="`MessageId`; an S3 record by `sequencer`, key and event",
    handshakes="`SubscriptionConfirmation` is confirmed; `UnsubscribeConfirmation`; `s3:TestEvent`",
    samples={
        "notification": Sample(
            headers={
                "content-type": "text/plain; charset=UTF-8",
                "x-amz-sns-message-type": "Notification",
                "x-amz-sns-message-id": "{uuid}",
                RAW_DELIVERY: "true",
            },
            body=b'{"order": 4711, "state": "paid"}',
        )
    },
)
