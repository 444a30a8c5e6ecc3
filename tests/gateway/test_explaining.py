"""Explaining an expression: the value of each of its parts, and no secret among them."""

from typing import Any

import msgspec
import pytest

from gateway.expressions import Step, compile_expression
from tests.gateway.deliveries import SECRET, is_secret, subject

BODY = {"size": 3, "none": None}


def test_explain_gives_the_value_of_each_part() -> None:
    text = "(body.size == 3) && !has(body.none.x) ||\n body.missing in ['é && ', ')'] ? headers.authorization : 'a'"

    steps = compile_expression(text).explain(subject(BODY), is_secret)

    missing, no_object = 'there is no field "missing"', "a field is asked of something that is no object"
    condition = "(body.size == 3) && !has(body.none.x) ||\n body.missing in ['é && ', ')']"
    assert steps == [
        Step(text=text, line=1, column=1, error="why is not said, for it reads a secret header"),
        Step(text=condition, line=1, column=1, error=no_object),
        Step(
            text="(body.size == 3) && !has(body.none.x)",
            line=1,
            column=1,
            error="a field is asked of something that is no object",
        ),
        Step(text="body.size == 3", line=1, column=2, value=True),
        Step(text="body.size", line=1, column=2, value=3),
        Step(text="!has(body.none.x)", line=1, column=21, error=no_object),
        Step(text="has(body.none.x)", line=1, column=22, error=no_object),
        Step(text="body.missing in ['é && ', ')']", line=2, column=2, error=missing),
        Step(text="body.missing", line=2, column=2, error=missing),
        Step(text="headers.authorization", line=2, column=35, value="***"),
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("body.a.b[0].c", ["body.a.b[0].c"]),
        ("body[event.type].x", ["body[event.type].x", "event.type"]),
        ("-(body.a)", ["-(body.a)", "body.a"]),
        ("size(( body.a )) > 1", ["size(( body.a )) > 1", "size(( body.a ))", "body.a"]),
        (
            "body.l.filter(x, x.n > 1).size() // )",
            ["body.l.filter(x, x.n > 1).size() // )", "body.l.filter(x, x.n > 1)", "body.l"],
        ),
        ("body.?a.orValue(1) == 1", ["body.?a.orValue(1) == 1", "body.?a.orValue(1)"]),
        ("body.?a.optMap(x, x + 1).orValue(2)", ["body.?a.optMap(x, x + 1).orValue(2)"]),
        ("math.least(body.a, (1 + 2) * 3)", ["math.least(body.a, (1 + 2) * 3)", "body.a", "(1 + 2) * 3", "1 + 2"]),
        ("{'a': body.a, 'b': [body.b]}", ["{'a': body.a, 'b': [body.b]}", "body.a", "body.b"]),
        ("true", ["true"]),
        ("body . x\n. y == 1", ["body . x\n. y == 1", "body . x\n. y"]),
        ("body.x - -1", ["body.x - -1", "body.x"]),
        (
            "!!(body.x) || .event.type == ''",
            ["!!(body.x) || .event.type == ''", "body.x", "event.type == ''", "event.type"],
        ),
        (
            "google.protobuf.Timestamp == type(1)",
            ["google.protobuf.Timestamp == type(1)", "google.protobuf.Timestamp", "type(1)"],
        ),
        ("'\\'' == body.`x y` ? 0x1Fu : 1u", ["'\\'' == body.`x y` ? 0x1Fu : 1u", "'\\'' == body.`x y`", "body.`x y`"]),
        ("b'''q'q''' == b''", ["b'''q'q''' == b''"]),
        ('R"\\d" in [body.x,]', ['R"\\d" in [body.x,]', "body.x"]),
        (
            "r'\\d)' == '''a'b''' + \"\"\"c\"d\"\"\"",
            ["r'\\d)' == '''a'b''' + \"\"\"c\"d\"\"\"", "'''a'b''' + \"\"\"c\"d\"\"\""],
        ),
        ("headers['x'].startsWith(body.a)", ["headers['x'].startsWith(body.a)", "headers['x']", "body.a"]),
        ("has(body.a) ? body.a : 'x'", ["has(body.a) ? body.a : 'x'", "has(body.a)", "body.a"]),
    ],
)
def test_the_parts_are_the_pieces_of_the_text(text: str, parts: list[str]) -> None:
    assert [step.text for step in compile_expression(text).explain(subject({}), is_secret)] == parts


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("headers", "***"),
        ("headers.map(h, headers[h])", "***"),
        ("headers[body.ref]", "***"),
        ("headers.authorization.split('')", "***"),
        ("headers.?authorization.orValue('')", "***"),
        ("headers['authorization'] == 'x'", False),
        ("headers['x-github-event']", "push"),
        ("has(headers.authorization)", True),
        ("query.Authorization", "***"),
        ("query.page", "2"),
    ],
)
def test_secret_headers_are_not_shown(text: str, shown: Any) -> None:
    delivery = subject({"ref": "authorization"}, query={"Authorization": SECRET, "page": "2"})

    steps = compile_expression(text).explain(delivery, is_secret)

    assert steps[0].value == shown
    assert SECRET not in msgspec.json.encode(steps).decode()


def test_null_is_a_value() -> None:
    steps = compile_expression("body.none").explain(subject(BODY), is_secret)

    assert msgspec.json.encode(steps) == b'[{"text":"body.none","line":1,"column":1,"value":null}]'


def test_a_large_value_is_cut() -> None:
    (step,) = compile_expression("body.text").explain(subject({"text": "é" * 5000}), is_secret)

    assert step == Step(text="body.text", line=1, column=1, value='"' + "é" * 999, is_cut=True)
