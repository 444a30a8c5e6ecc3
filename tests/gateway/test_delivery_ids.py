"""Which of its headers, or which part of its body, makes a delivery the same as an earlier one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import delivery_ids
from schemas.events import DEDUPE_KEY_LIMIT, fit_dedupe_key

STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"idempotency-key": "a"}, "key:a"),
        ({"x-github-delivery": "a"}, "github:a"),
        ({"webhook-id": "a"}, "webhook:a"),
        ({"ce-id": "a", "ce-source": "/b"}, "cloudevent:/b\na"),
        ({"webhook-id": "a", "x-github-delivery": "b", "idempotency-key": "c"}, "webhook:a"),
        ({"x-github-delivery": "b", "idempotency-key": "c"}, "github:b"),
        ({"idempotency-key": "c", "ce-id": "a", "ce-source": "/b"}, "key:c"),
        ({"idempotency-key": ""}, None),
        ({"ce-id": "a"}, None),
        ({"ce-source": "/b"}, None),
        ({"ce-id": "", "ce-source": "/b"}, None),
        ({}, None),
    ],
)
def test_the_headers_are_believed_in_their_order(headers: dict[str, str], found: str | None) -> None:
    assert delivery_ids.find(headers, b'{"id": "a", "source": "/b"}') == found


def test_the_same_text_in_two_headers_is_two_ids() -> None:
    names = ("webhook-id", "x-github-delivery", "idempotency-key")

    assert len({delivery_ids.find({name: "same"}, b"") for name in names}) == 3


def test_a_structured_cloud_event_is_the_same_as_its_binary_form() -> None:
    binary = delivery_ids.find({"ce-id": "a", "ce-source": "/b"}, b"{}")
    structured = delivery_ids.find(STRUCTURED, json.dumps({"id": "a", "source": "/b", "data": [1]}).encode())

    assert structured == binary == "cloudevent:/b\na"


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"id": 1, "source": "/b"}', b'{"id": "a"}', b'{"id": "\xff", "source": "/b"}', b"[" * 10_000],
)
def test_what_only_claims_to_be_a_cloud_event_has_no_id(body: bytes) -> None:
    assert delivery_ids.find(STRUCTURED, body) is None


def test_a_cloud_event_with_empty_attributes_has_no_id() -> None:
    assert delivery_ids.find(STRUCTURED, b'{"id": "", "source": ""}') is None


@given(st.text(), st.text())
def test_an_id_that_fits_stays_readable_and_any_id_can_be_stored(first: str, second: str) -> None:
    kept = fit_dedupe_key(first * 100 if len(first) % 2 else first)

    assert 0 <= len(kept) <= DEDUPE_KEY_LIMIT
    assert "\0" not in kept
    assert (fit_dedupe_key(first) == fit_dedupe_key(second)) == (first == second)


def test_a_long_id_becomes_its_hash() -> None:
    assert fit_dedupe_key("x" * 250) == "x" * 250
    assert fit_dedupe_key("x" * 251).startswith("sha256:")
    assert fit_dedupe_key("x" * 251) != fit_dedupe_key("x" * 252)
