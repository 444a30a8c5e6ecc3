"""Cloud senders over real HTTP: they are verified with keys that are fetched, greeted, confirmed, and taken apart."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from gateway.sources import discover
from tests.receivers import Received, Receiver, Reply
from tests.rsa_senders import AUDIENCE, EMAIL, TOPIC, Amazon, Google
from tests.system import Json, Penstock


class Emulator(Receiver):
    """SNS on this machine: it serves its certificate, and confirms whoever visits."""

    def __init__(self, amazon: Amazon) -> None:
        super().__init__(self._serve_document)
        self.amazon = amazon

    def _serve_document(self, request: Received) -> Reply:
        if request.path == self.amazon.certificate_path:
            return Reply(200, body=self.amazon.certificate)
        return Reply(200, body=b"<ConfirmSubscriptionResponse/>")

    @property
    def config(self) -> Json:
        return {"certificate_hosts": [self.url.removeprefix("http://")], "topics": [TOPIC]}


@contextlib.asynccontextmanager
async def emulated() -> AsyncIterator[Emulator]:
    amazon = Amazon()
    async with Emulator(amazon) as emulator:
        amazon.url = emulator.url
        yield emulator


async def send(penstock: Penstock, hook: str, message: Json) -> httpx.Response:
    """Post as SNS does: JSON as text."""
    headers = {"content_type": "text/plain; charset=UTF-8", "x_amz_sns_message_type": message["Type"]}
    return await penstock.deliver(hook, json.dumps(message), **headers)


async def events_of(penstock: Penstock, hook: str) -> list[Json]:
    schedule = hook.split("/hooks/")[1].partition("/")[0]
    answer = await penstock.client.get("/v1/events", params={"schedule_id": schedule})
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["items"]
    return found


@pytest.mark.parametrize("version", ["1", "2"])
async def test_sns_subscribes_notifies_and_unsubscribes(shared: Penstock, version: str) -> None:
    async with emulated() as emulator:
        hook = await shared.hook(source="sns", source_config=emulator.config)
        subscribed, notified, again, unsubscribed = [
            await send(shared, hook, emulator.amazon.message(kind, version=version, MessageId=message_id))
            for kind, message_id in (
                ("SubscriptionConfirmation", "first"),
                ("Notification", "second"),
                ("Notification", "second"),
                ("UnsubscribeConfirmation", "third"),
            )
        ]
        paths = [request.path for request in emulator.received]

    token = emulator.amazon.message("SubscriptionConfirmation")["Token"]
    assert [answer.status_code for answer in (subscribed, notified, again, unsubscribed)] == [200, 202, 200, 200]
    assert subscribed.json()["reason"] == "SubscriptionConfirmation is a handshake"
    assert unsubscribed.json()["reason"] == "UnsubscribeConfirmation is a handshake"
    assert again.json()["runs"][0]["id"] == notified.json()["runs"][0]["id"]
    assert paths == [emulator.amazon.certificate_path, f"/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={token}"]
    verdicts = [(event["verdict"], event["event_type"]) for event in await events_of(shared, hook)]
    assert verdicts == [
        ("handshake", "UnsubscribeConfirmation"),
        ("duplicate", "Notification"),
        ("accepted", "Notification"),
        ("handshake", "SubscriptionConfirmation"),
    ]


async def test_a_confirmation_that_fails_is_asked_for_again_and_then_done(shared: Penstock) -> None:
    async with emulated() as emulator:
        hook = await shared.hook(source="sns", source_config=emulator.config)
        message = emulator.amazon.message("SubscriptionConfirmation")
        emulator.replies = [Reply(200, body=emulator.amazon.certificate), Reply(500)]
        failed, retried = await send(shared, hook, message), await send(shared, hook, message)
        visits = [request.path for request in emulator.received if "ConfirmSubscription" in request.path]

    assert (failed.status_code, "retry-after" in failed.headers) == (503, True)
    assert retried.status_code == 200
    assert len(visits) == 2


async def test_a_certificate_that_cannot_be_had_is_no_fault_of_the_sender(shared: Penstock) -> None:
    async with emulated() as emulator:
        hook = await shared.hook(source="sns", source_config=emulator.config)
        emulator.replies = [Reply(503)]
        answer = await send(shared, hook, emulator.amazon.message())

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["type"] == "/problems/unavailable"


@pytest.mark.parametrize(
    "forged", [{"Signature": "AAAA"}, {"Message": "other"}, {"SigningCertURL": "https://evil.example.com/x.pem"}]
)
async def test_a_forged_confirmation_is_refused_and_nothing_visited(shared: Penstock, forged: Json) -> None:
    async with emulated() as emulator:
        hook = await shared.hook(source="sns", source_config=emulator.config)
        answer = await send(shared, hook, emulator.amazon.message("SubscriptionConfirmation") | forged)
        visits = [request for request in emulator.received if "ConfirmSubscription" in request.path]

    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/bad_signature")
    assert visits == []


async def test_a_schedule_that_only_observes_lets_in_what_cannot_be_verified_now(shared: Penstock) -> None:
    async with emulated() as emulator:
        hook = await shared.hook(source="sns", source_config=emulator.config | {"mode": "observe"})
        emulator.replies = [Reply(503)]
        answer = await send(shared, hook, emulator.amazon.message())

    [event] = await events_of(shared, hook)
    assert answer.status_code == 202
    assert event["observed"] == "The certificate at SigningCertURL was not fetched."


async def test_a_schedule_that_only_observes_lets_a_forged_confirmation_in_but_visits_nothing(
    shared: Penstock,
) -> None:
    async with emulated() as emulator:
        hook = await shared.hook(source="sns", source_config=emulator.config | {"mode": "observe"})
        message = emulator.amazon.message("SubscriptionConfirmation") | {"Signature": "AAAA"}
        answer = await send(shared, hook, message)
        visits = [request for request in emulator.received if "ConfirmSubscription" in request.path]

    assert answer.status_code == 200
    assert visits == []


async def test_an_event_of_s3_in_a_message_of_sns_becomes_a_run_per_object(shared: Penstock) -> None:
    records = [
        {
            "eventName": "ObjectCreated:Put",
            "eventTime": "2026-01-02T03:04:05.678Z",
            "s3": {"bucket": {"name": "incoming"}, "object": {"key": key, "sequencer": str(number)}},
        }
        for number, key in enumerate(("red+flower.csv", "b%C3%BCro.csv"))
    ]
    async with emulated() as emulator:
        hook = await shared.hook(source="sns", source_config=emulator.config, split=True)
        one = emulator.amazon.message(Message=json.dumps({"Records": records}), MessageId="one")
        overlapping = emulator.amazon.message(Message=json.dumps({"Records": records[1:]}), MessageId="two")
        first, second = await send(shared, hook, one), await send(shared, hook, overlapping)

    runs = [await shared.run(run["id"]) for run in first.json()["runs"]]
    keys = [run["event_variables"]["s3"]["object"]["decodedKey"] for run in runs]
    assert sorted(keys) == ["büro.csv", "red flower.csv"]
    assert (second.status_code, second.json()["runs"]) == (200, [])


async def test_pubsub_is_believed_by_googles_key(shared: Penstock) -> None:
    google = Google()
    async with Receiver(lambda _: Reply(200, body=google.jwks)) as certs:
        config = {"audience": AUDIENCE, "email": EMAIL, "jwks_url": f"{certs.url}/certs"}
        hook = await shared.hook(source="pubsub", source_config=config)
        body = json.dumps({"message": {"data": "eyJvcmRlciI6NDcxMX0=", "messageId": "1"}, "subscription": "s"})
        taken = await shared.deliver(hook, body, authorization=f"Bearer {google.token()}")
        again = await shared.deliver(hook, body, authorization=f"Bearer {google.token()}")
        other = await shared.deliver(hook, body, authorization=f"Bearer {google.token(email='evil@example.com')}")
        forged = await shared.deliver(hook, body, authorization=f"Bearer {Google(google.key_id).token()}")
        nothing = await shared.deliver(hook, body)

    assert [answer.status_code for answer in (taken, again, other, forged, nothing)] == [202, 200, 401, 401, 401]
    assert [request.path for request in certs.received] == ["/certs"]


async def test_cloudevents_ask_with_options_and_are_told_what_they_may(shared: Penstock) -> None:
    hook = await shared.hook(source="cloudevents")
    async with httpx.AsyncClient(trust_env=False) as sender:
        asked = await sender.options(
            hook, headers={"webhook-request-origin": "events.example.com", "webhook-request-rate": "120"}
        )
        besides = await sender.options(hook)
        got = await sender.get(hook)

    named = ("webhook-allowed-origin", "webhook-allowed-rate", "allow")
    assert (asked.status_code, asked.content) == (200, b"")
    assert [asked.headers[name] for name in named] == ["events.example.com", "120", "OPTIONS, POST"]
    assert (besides.status_code, got.status_code) == (405, 405)
    assert await events_of(shared, hook) == []


async def test_a_token_in_the_query_is_one_as_the_webhook_specification_asks(shared: Penstock) -> None:
    path, _, token = (await shared.hook(source="cloudevents")).rpartition("/")
    batch = [{"specversion": "1.0", "id": str(number), "source": "/a", "type": "t"} for number in range(3)]
    headers = {"content_type": "application/cloudevents-batch+json"}
    taken = await shared.deliver(f"{path}?access_token={quote(token)}", json.dumps(batch), **headers)

    assert taken.status_code == 202


async def test_event_grid_is_validated_with_exactly_200(shared: Penstock) -> None:
    hook = await shared.hook(source="eventgrid", source_config={"secrets": ["grid secret"]})
    event: Json = {
        "id": "1",
        "topic": "t",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6"},
    }
    headers = {"content_type": "application/json", "aeg_event_type": "SubscriptionValidation"}
    known = await shared.deliver(f"{hook}?secret=grid%20secret", json.dumps([event]), **headers)
    again = await shared.deliver(f"{hook}?secret=grid%20secret", json.dumps([event]), **headers)
    stranger = await shared.deliver(hook, json.dumps([event]), **headers)

    for answer in (known, again):
        assert (answer.status_code, answer.json()) == (200, {"validationResponse": "512d38b6"})
        assert answer.headers["content-type"].startswith("application/json")
    assert stranger.status_code == 401


async def test_event_grids_list_becomes_a_run_per_event(shared: Penstock) -> None:
    hook = await shared.hook(source="eventgrid", split=True)
    events = [{"id": str(uuid.uuid4()), "topic": "t", "eventType": "created", "data": {}} for _ in range(3)]
    taken = await shared.deliver(hook, json.dumps(events), content_type="application/json")
    overlapping = await shared.deliver(hook, json.dumps(events[1:]), content_type="application/json")

    assert (taken.status_code, len(taken.json()["runs"])) == (202, 3)
    assert (overlapping.status_code, overlapping.json()["runs"]) == (200, [])


async def test_minio_probes_and_then_sends(shared: Penstock) -> None:
    hook = await shared.hook(source="minio", source_config={"secrets": ["minio token"]})
    async with httpx.AsyncClient(trust_env=False) as sender:
        probed = await sender.head(hook, headers={"authorization": "Bearer minio token"})
    record: Json = {"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}
    body = json.dumps({"EventName": "s3:ObjectCreated:Put", "Key": "b/k", "Records": [record]})
    sent = await shared.deliver(hook, body, authorization="Bearer minio token")
    stranger = await shared.deliver(hook, body, authorization="Bearer other")

    assert (probed.status_code, probed.content) == (200, b"")
    assert (sent.status_code, stranger.status_code) == (202, 401)
    assert [event["verdict"] for event in await events_of(shared, hook) if event["verdict"] != "rejected"] == [
        "accepted"
    ]


HOSTILE: list[Any] = [
    b'{"Records":[{"eventName":"a","s3":{"object":{"key":"%00%ff","sequencer":"1"}}}]}',
    b'{"Records":[{"s3":{"object":{"key":7,"sequencer":1}},"eventName":1}],"EventName":{}}',
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"Records":[{"s3":{"object":{"key":1e400}}}]}',
    b'{"Records":[{"s3":{"object":{"key":"\\u0000","sequencer":"\\u0000"}},"eventName":"\\u0000","eventId":"\\u0000"}]}',
    b'{"Records":[1,null,{"s3":1},{"s3":{"object":[]}},{"s3":{"object":{"a":1}}}]}',
    b'[{"eventType":"\\u0000","id":{"a":1},"topic":[]},1,null]',
    b'{"events":[{"id":' + b"9" * 5000 + b"}]}",
    b'{"alerts":[{"fingerprint":"\\ud83d\\ude00","startsAt":"x","status":"' + b"s" * 100_000 + b'"}],"status":[]}',
    b'{"message":{"data":"////","attributes":[],"messageId":"\\u0000"}}',
    b'{"specversion":"1.0","id":"\\u0000","source":"' + b"s" * 9000 + b'","type":"t","data_base64":"%%%"}',
]
OPEN = ["s3", "minio", "ceph", "eventbridge", "eventgrid", "cloudevents", "alertmanager", "grafana", "docker_hub"]


@pytest.mark.parametrize(
    ("source", "split"),
    [
        (name, split)
        for name in [*OPEN, "docker_registry"]
        for split in sorted({False, discover()[name].split is not None})
    ],
)
async def test_no_body_makes_the_gateway_fail(shared: Penstock, source: str, split: bool) -> None:
    hook = await shared.hook(source=source, split=split, is_paused=True)
    answers = await asyncio.gather(
        *(
            shared.deliver(
                hook,
                body,
                content_type=content_type,
                ce_id="%00%zz",
                ce_source='"\\',
                ce_type="%ff%00",
                ce_specversion="1.0",
            )
            for body in HOSTILE
            for content_type in ("", "text/plain", "application/cloudevents+json", "application/cloudevents-batch+json")
        )
    )

    assert {answer.status_code for answer in answers} <= {200, 202, 400}
