"""CloudEvents in each of their modes, and header values as the specification and as widespread libraries write them."""

import base64
import json

import pytest

from gateway.cloud_events import header_text, permission, read
from gateway.incoming import Incoming, Item

EVENT = {"specversion": "1.0", "id": "1", "source": "/a", "type": "created"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("100%25", "100%"),
        ("100%", "100%"),
        ("50% off", "50% off"),
        ("b\xfcro", "büro"),
        ("b\xc3\xbcro", "büro"),
        ('"quoted"', "quoted"),
        ('"a \\"quoted\\" \\\\ text"', 'a "quoted" \\ text'),
        ('"', '"'),
        ('in "the" middle', 'in "the" middle'),
        ("%ff", "ÿ"),
        ("", ""),
        ("€", "?"),
    ],
)
def test_the_value_of_a_header_is_read_as_it_was_meant(value: str, text: str) -> None:
    assert header_text(value) == text


def incoming(content_type: str, body: object, **headers: str) -> Incoming:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Incoming({"content-type": content_type} | {n.replace("_", "-"): v for n, v in headers.items()}, content)


@pytest.mark.parametrize(
    "content_type", ["application/cloudevents+json", "Application/CloudEvents+JSON; charset=utf-8"]
)
def test_a_structured_event_is_itself(content_type: str) -> None:
    assert read(incoming(content_type, EVENT | {"data": 1})) == [
        Item(payload=EVENT | {"data": 1}, id="cloudevent:/a\n1", event_type="created")
    ]


def test_a_batch_holds_any_number_of_events() -> None:
    batch = [EVENT, EVENT | {"id": "2"}, "no event"]

    found = read(incoming("application/cloudevents-batch+json", batch))
    assert [item.id for item in found] == ["cloudevent:/a\n1", "cloudevent:/a\n2"]
    assert read(incoming("application/cloudevents-batch+json", [])) == []


def test_a_binary_event_is_put_together_of_headers_and_body() -> None:
    found = read(
        incoming(
            "application/json",
            {"order": 1},
            ce_specversion="1.0",
            ce_id="1",
            ce_source="/b%C3%BCro",
            ce_type='"created"',
            ce_traceparent="00-a-b-01",
        )
    )

    payload = EVENT | {
        "source": "/büro",
        "traceparent": "00-a-b-01",
        "datacontenttype": "application/json",
        "data": {"order": 1},
    }
    assert found == [Item(payload=payload, id="cloudevent:/büro\n1", event_type="created")]


@pytest.mark.parametrize(
    ("content", "content_type", "data"),
    [
        (b'{"order": 1}', "application/json", {"order": 1}),
        (b'{"order": 1}', None, {"order": 1}),
        (b"text", "text/plain", "text"),
        ("Grüße".encode(), "text/plain", "Grüße"),
    ],
)
def test_data_in_base64_is_read_when_it_is_json_or_text(content: bytes, content_type: str | None, data: object) -> None:
    typed = EVENT | ({"datacontenttype": content_type} if content_type else {})
    sent = typed | {"data_base64": base64.b64encode(content).decode()}

    [item] = read(incoming("application/cloudevents+json", sent))
    assert item.payload == typed | {"data": data}


@pytest.mark.parametrize("encoded", [base64.b64encode(b"\xff\x00").decode(), "no base64", "é", 7, None])
def test_other_data_stays_as_it_is(encoded: object) -> None:
    [item] = read(incoming("application/cloudevents+json", EVENT | {"data_base64": encoded}))

    assert item.payload == EVENT | {"data_base64": encoded}


@pytest.mark.parametrize(
    "request_",
    [
        incoming("application/json", EVENT),
        incoming("application/cloudevents+json", [EVENT]),
        incoming("application/cloudevents+json", b"\xff"),
        incoming("application/cloudevents-batch+json", EVENT),
    ],
)
def test_what_is_no_event_is_none(request_: Incoming) -> None:
    assert read(request_) == []


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        ("OPTIONS", {}, {}),
        ("GET", {"webhook-request-origin": "a.example.com"}, {}),
        (
            "OPTIONS",
            {"webhook-request-origin": "a.example.com"},
            {"WebHook-Allowed-Origin": "a.example.com", "Allow": "OPTIONS, POST"},
        ),
        (
            "OPTIONS",
            {"webhook-request-origin": "b\xfcro", "webhook-request-rate": "120"},
            {"WebHook-Allowed-Origin": "*", "Allow": "OPTIONS, POST", "WebHook-Allowed-Rate": "120"},
        ),
        (
            "OPTIONS",
            {"webhook-request-origin": "a", "webhook-request-rate": "fast\u00b2"},
            {"WebHook-Allowed-Origin": "a", "Allow": "OPTIONS, POST", "WebHook-Allowed-Rate": "*"},
        ),
    ],
)
def test_who_asks_for_permission_gets_it(method: str, headers: dict[str, str], allowed: dict[str, str]) -> None:
    assert permission(Incoming(headers, b"", method=method)) == allowed
