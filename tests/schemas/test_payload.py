"""How the bytes of a delivery are read: every odd body that was ever sent, and those that only a fuzzer thinks of."""

import hashlib
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Malformed
from schemas.payload import Kind, as_json, classify, decode

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
URL = "https://hooks.example.com/v1/events/1/body"
DEEP = 10_000
CONTENT_TYPES = ["", JSON, "application/cloudevents+json; charset=utf-8", FORM, "text/plain", "image/png", "\xff;;"]


def read(body: bytes, content_type: str = "") -> Any:
    return decode(classify(body, content_type), body, content_type=content_type, url=URL)


def shown(body: bytes, content_type: str = "") -> bytes:
    return as_json(classify(body, content_type), body, content_type=content_type, url=URL)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b'{"ref": "refs/heads/main"}', {"ref": "refs/heads/main"}),
        (b"[1, 2.5, null, true]", [1, 2.5, None, True]),
        (b'"text"', "text"),
        (b"0", 0),
        (b"null", None),
        (b" \r\n\t{} \n", {}),
        ('"Größe 🎈"'.encode(), "Größe 🎈"),
        (rb'"\u0000"', "\0"),
        (rb'{"\u0000": 1}', {"\0": 1}),
        (rb'"\ud83c\udf88"', "🎈"),
        (b"12345678901234567890", 12345678901234567890),
        (b"-" + b"9" * 4_000, -int("9" * 4_000)),
        (b"9" * 5_000, Decimal("9" * 5_000)),
        (b"1e400", float("inf")),
        (b"-1e131071", float("-inf")),
        (b"1e131072", float("inf")),
        (b"1e-16384", 0.0),
        (b"9007199254740993.0", 9007199254740992.0),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (rb'{"a": 1, "\u0061": 2}', {"a": 2}),
    ],
)
@pytest.mark.parametrize("content_type", ["", JSON, "application/vnd.api+json", "text/plain", FORM])
def test_text_that_is_json_is_json_whatever_it_is_declared_as(body: bytes, value: Any, content_type: str) -> None:
    assert classify(body, content_type) is Kind.JSON
    assert read(body, content_type) == value
    assert shown(body, content_type) == body  # as the sender wrote it, to the last digit


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a": "\0"}', "JSON is malformed"),
        (b"\0", "JSON is malformed"),
        (rb'"\ud800"', "truncated"),
        (rb'"\udc00\ud800"', "surrogate"),
        (b'"\xff"', "invalid UTF-8 at byte 1"),
        (b'"\xc0\xaf"', "invalid UTF-8 at byte 1"),
        (b'"\xed\xa0\x80"', "invalid UTF-8 at byte 1"),
        (b"\xef\xbb\xbf{}", "JSON is malformed"),
        ("{}".encode("utf-16"), "invalid UTF-8 at byte 0"),
        ("{}".encode("utf-16-le"), "JSON is malformed"),
        (b"NaN", "JSON is malformed"),
        (b"Infinity", "JSON is malformed"),
        (b"-Infinity", "JSON is malformed"),
        (b"01", "JSON is malformed"),
        (b"+1", "JSON is malformed"),
        (b"1.", "JSON is malformed|truncated|invalid number"),
        (b'{"a": 1,}', "JSON is malformed"),
        (b"[1,]", "JSON is malformed"),
        (b"{} // done", "JSON is malformed"),
        (b"{} {}", "JSON is malformed"),
        (b"{'a': 1}", "JSON is malformed"),
        (b'{"a": ', "truncated"),
        (b"   ", "truncated"),
        (b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested too deeply"),
    ],
)
@pytest.mark.parametrize("content_type", [JSON, "Application/JSON; charset=utf-8", "application/cloudevents+json"])
def test_what_is_declared_as_json_and_is_none_is_malformed(body: bytes, reason: str, content_type: str) -> None:
    with pytest.raises(Malformed, match=reason) as refused:
        classify(body, content_type)

    assert refused.value.message.startswith("The body is declared as application/")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.EMPTY),
        (b"hello", Kind.TEXT),
        (b"   ", Kind.TEXT),
        (b"NaN", Kind.TEXT),
        (b'{"a": 1,}', Kind.TEXT),
        (rb'"\ud800"', Kind.TEXT),
        (b"\xef\xbb\xbf{}", Kind.TEXT),
        (b"[" * DEEP + b"]" * DEEP, Kind.TEXT),
        (b"\0", Kind.BINARY),
        (b'{"a": "\0"}', Kind.BINARY),
        (b'"\xff"', Kind.BINARY),
        ("{}".encode("utf-16"), Kind.BINARY),
        (b"\x89PNG\r\n\x1a\n", Kind.BINARY),
    ],
)
@pytest.mark.parametrize("content_type", ["", "text/plain", "application/octet-stream", "\xff;;=,"])
def test_what_is_declared_as_something_else_is_taken_as_what_it_is(body: bytes, kind: Kind, content_type: str) -> None:
    assert classify(body, content_type) is kind


def test_an_empty_body_is_null_also_when_it_is_declared_as_json() -> None:
    assert read(b"", JSON) is None
    assert shown(b"", JSON) == b"null"


def test_other_text_is_a_string() -> None:
    assert read("Grüße".encode(), "text/plain") == "Grüße"
    assert shown(b'a "quoted" word') == rb'"a \"quoted\" word"'


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=1&a=2&a=3", {"a": ["1", "2", "3"]}),
        (b"a=1&b=x&a=2", {"a": ["1", "2"], "b": "x"}),
        (b"empty=&flag", {"empty": "", "flag": ""}),
        (b"name=Ada+Lovelace&city=Z%C3%BCrich", {"name": "Ada Lovelace", "city": "Zürich"}),
        (b"bad=%ff%fe", {"bad": "��"}),
        (b"nul=%00", {"nul": "\0"}),
        (b"half=%4", {"half": "%4"}),
        (b"a;b=1", {"a;b": "1"}),
        (b"&&&", {}),
    ],
)
def test_a_form_is_an_object_of_strings_and_a_repeated_field_a_list(body: bytes, fields: dict[str, Any]) -> None:
    assert classify(body, FORM + "; charset=utf-8") is Kind.FORM
    assert read(body, FORM) == fields
    assert json.loads(shown(body, FORM)) == fields


def test_a_form_with_very_many_fields_is_read() -> None:
    body = b"&".join(b"%d=x" % number for number in range(20_000))

    assert len(read(body, FORM)) == 20_000


def test_bytes_that_are_no_text_are_described_and_not_shown() -> None:
    body = b"\x89PNG\r\n\x1a\n\0"

    assert read(body, "image/png") == {
        "content_type": "image/png",
        "size": 9,
        "sha256": hashlib.sha256(body).hexdigest(),
        "url": URL,
    }


def accepted(body: bytes, content_type: str) -> Kind | None:
    try:
        return classify(body, content_type)
    except Malformed:
        return None


@given(st.binary(), st.sampled_from(CONTENT_TYPES))
def test_any_bytes_are_read_or_malformed_and_what_was_read_can_be_shown(body: bytes, content_type: str) -> None:
    if kind := accepted(body, content_type):
        decode(kind, body, content_type=content_type, url=URL)
        msgspec.json.decode(as_json(kind, body, content_type=content_type, url=URL), type=msgspec.Raw)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON_VALUES, st.sampled_from(CONTENT_TYPES), st.booleans())
def test_any_json_value_comes_back_as_it_was(value: Any, content_type: str, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()

    assert classify(body, content_type) is Kind.JSON
    assert read(body, content_type) == value


@given(st.text('[]{},:"\\u0019adcefAD-+.eE \n\0', max_size=60), st.sampled_from(CONTENT_TYPES))
def test_what_is_almost_json_is_read_or_malformed(text: str, content_type: str) -> None:
    body = text.encode()
    if kind := accepted(body, content_type):
        decode(kind, body, content_type=content_type, url=URL)


@given(st.lists(st.tuples(st.text(), st.text())))
def test_any_text_in_a_form_is_read(pairs: list[tuple[str, str]]) -> None:
    body = "&".join(f"{name}={value}" for name, value in pairs).encode("utf-8", "replace")
    if accepted(body, FORM) is Kind.FORM:
        json.loads(shown(body, FORM))
