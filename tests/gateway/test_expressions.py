"""Expressions over a delivery: what they give, how they fail, and that nothing else happens."""

import json
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.expressions import BadExpression, ExpressionFailed, Wanted, compile_expression, fields_read
from tests.gateway.deliveries import subject

BODY = {
    "ref": "refs/heads/main",
    "forced": False,
    "size": 3,
    "price": 1.5,
    "none": None,
    "commits": [{"id": "a1", "files": ["docs/a.md"]}, {"id": "b2", "files": ["src/b.py", "c.py"]}],
}


def evaluate(text: str, body: Any = BODY, wanted: Wanted = "any", **fields: Any) -> Any:
    return compile_expression(text, wanted).evaluate(subject(body, **fields))


def failure(text: str, body: Any = BODY, wanted: Wanted = "any", **fields: Any) -> str:
    with pytest.raises(ExpressionFailed) as failed:
        evaluate(text, body, wanted, **fields)
    return str(failed.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("body.ref", "refs/heads/main"),
        ("body", BODY),
        ("body.none", None),
        ("body.price * 2.0", 3.0),
        ("body.commits.map(c, c.id)", ["a1", "b2"]),
        ("body.commits.filter(c, c.files.size() > 1)[0].id", "b2"),
        ("body.commits.exists(c, c.files.exists(f, f.startsWith('docs/')))", True),
        ("body.?missing.?deeper.orValue('-')", "-"),
        ("body.?size.optMap(n, n + 1).orValue(0)", 4),
        ("{'a': body.size, ?'b': body.?missing}", {"a": 3}),
        ("body.ref.split('/')[2]", "main"),
        ("body.ref.matches('^refs/heads/[a-z]+$')", True),
        ("headers['x-github-event'] + event.type", "pushpush"),
        ("event.id + ' ' + event.source", "d-1 github"),
        ("query.page", "2"),
        ("event.received_at", "2023-11-14T22:13:20Z"),
        ("event.received_at + duration('90m')", "2023-11-14T23:43:20Z"),
        ("duration('1500ms')", "1.5s"),
        ("b'\\xff\\x00'", "/wA="),
        ("18446744073709551615u", 2**64 - 1),
        ("{'b': 1, 'a': 2}", {"a": 2, "b": 1}),
        ("base64.encode(bytes('x'))", "eA=="),
        ("math.greatest(body.size, 9)", 9),
    ],
)
def test_an_expression_gives_a_value_that_json_has(text: str, value: Any) -> None:
    assert evaluate(text, query={"page": "2"}) == value


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("9007199254740993", 9007199254740993),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2.0**64),
        ("-1" + "0" * 400, None),
        ("1e400", None),
        ("1.0", 1.0),
        ('"\\u0000a"', "\ufffda"),
        ('{"\\u0000": [1e300, true]}', {"\ufffd": [1e300, True]}),
        ("null", None),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)
def test_json_arrives_as_it_is_but_for_what_the_language_cannot_hold(raw: str, value: Any) -> None:
    body = raw.encode()
    if value is None and raw != "null":
        assert failure("body", raw=body) in {
            "it gives inf, which is no number in JSON",
            "it gives -inf, which is no number in JSON",
        }
        return
    for text in ("body", "[body][0]", "true ? body : 0"):
        found = evaluate(text, raw=body)
        assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("raw", "content_type", "body"),
    [
        (b"", "application/json", None),
        (b"a=1&b=%00&a=2", "application/x-www-form-urlencoded", {"a": ["1", "2"], "b": "\ufffd"}),
        (b"just text", "text/plain", "just text"),
    ],
)
def test_the_body_is_what_the_run_gets(raw: bytes, content_type: str, body: Any) -> None:
    assert evaluate("body", raw=raw, headers={"content-type": content_type}) == body


@pytest.mark.parametrize(
    ("text", "wanted", "message"),
    [
        ("body.missing", "any", 'there is no field "missing"'),
        ("body.ref.x", "any", "a field is asked of something that is no object"),
        ("body.size / 0", "any", "divide by zero"),
        ("9223372036854775807 + body.size", "any", "integer overflow"),
        ("body.ref + body.size", "any", "these types do not go together: _+_(string, int64)"),
        ("body.ref > 1", "any", "these types do not go together: _>_(string, int64)"),
        ("body.commits[5]", "any", "Index error: index=5 size=2"),
        ("body.commits[-1]", "any", "Index error: index=-1 size=2"),
        ("body.commits[true]", "any", "Index error: expected integer type, got bool"),
        ("body.ref[0]", "any", "Invalid container type: 'string'"),
        ("body.commits.id", "any", "a field is asked of something that is no object"),
        ("body.?missing.value()", "any", "an optional value is not there"),
        ("int(body.ref)", "any", "cannot convert string to int"),
        ("double('nan')", "any", "it gives nan, which is no number in JSON"),
        ("{1: 'a'}", "any", "it gives an object with names that are no texts, which JSON does not have"),
        ("[type(body)]", "any", "it gives a value of type TYPE, which JSON does not have"),
        ("body.size", "bool", "it must give true or false, and gave a number"),
        ("body.none", "bool", "it must give true or false, and gave null"),
        ("body.commits", "bool", "it must give true or false, and gave a list"),
        ("body.size", "str", "it must give a text, and gave a number: string(...) makes it one"),
    ],
)
def test_an_expression_without_a_value_says_why(text: str, wanted: Wanted, message: str) -> None:
    assert failure(text, wanted=wanted) == message


@pytest.mark.parametrize(
    ("text", "wanted", "line", "column", "message"),
    [
        ("body.a ==", "any", 1, 10, "it ends too early"),
        ("", "any", 1, 1, "it ends too early"),
        ("true &&\n  body.a +* 2", "any", 2, 11, "'*' is not expected here"),
        ("headers.x + 1", "any", 1, 11, "found no matching overload for '_+_' applied to '(string, int)'"),
        ("'é' == bdy", "any", 1, 8, "undeclared reference to 'bdy' (in container '')"),
        ("event.tpye == 'push'", "any", 1, 6, "event has the fields id, type, source, received_at"),
        ("1 + 1", "bool", 1, 1, "it must give true or false, and gives INT"),
        ("true", "str", 1, 1, "it must give a text, and gives BOOL"),
        ("body.a.matches('(')", "any", 1, 16, "invalid regular expression: missing ): ("),
        ("body.a.matches(body.b)", "any", 1, 15, "the pattern of matches() must be written out as a text"),
        ("body.a.matches('((a{99}){99}){9}')", "any", 1, 16, "this pattern is too large"),
        ("google.protobuf.BoolValue{}", "any", 1, 1, "messages such as google.protobuf.BoolValue are not known here"),
        ("true || [body.?a] == []", "any", 1, 9, "an optional value must be opened"),
        ("{'k': body[?'a']['o']}", "any", 1, 17, "an optional value must be opened"),
        ("body['\0']", "any", 1, 1, "it holds a NUL: write \\u0000 inside a text"),
        ("body.?a", "any", 1, 1, "an optional value must be opened"),
        ("(" * 40 + "1" + ")" * 40, "any", 1, 1, "recursion limit exceeded. limit: 32"),
        ("'" + "x" * 10_000 + "'", "any", 1, 1, "it has 10002 characters, and may have 10000"),
        ("body.map(a, a.map(b, b.map(c, c.map(d, d))))", "any", 1, 1, "macros stand inside each other more than 3"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(
    text: str, wanted: Wanted, line: int, column: int, message: str
) -> None:
    with pytest.raises(BadExpression) as refused:
        compile_expression(text, wanted)

    assert (refused.value.line, refused.value.column) == (line, column)
    assert refused.value.message.startswith(message)


def test_the_hint_shows_the_place_even_in_a_long_line() -> None:
    with pytest.raises(BadExpression) as refused:
        compile_expression("'" + "x" * 200 + "' + bdy")

    line, caret = refused.value.hint.split("\n")
    assert line[caret.index("^") :] == "bdy"
    assert len(line) <= 120


LONG = {
    "numbers": list(range(9000)),
    "few": list(range(1000)),
    "text": "a" * 500_000,
    "other": "a" * 25_000 + "b",
    "words": ["word"] * 9000,
}


@pytest.mark.parametrize(
    "text",
    [
        "body.numbers.all(x, body.numbers == body.numbers)",
        "body.numbers.filter(x, x in body.numbers)",
        "body.numbers.map(x, x)",
        "body.few.map(x, body.text + body.text)",
        "body.words.exists(w, w.matches('[a-z]{3}[0-9]'))",
        "body.text.contains(body.other)",
        "body.text.matches('(a|b)*a(a|b){9}$')",
        "body.text.replace('a', body.other)",
        "body.text" + ".replace('a', 'aa')" * 10,
        "body.text.split('')",
        "body.numbers.all(x, body.numbers.all(y, true))",
    ],
)
def test_what_could_hold_up_the_event_loop_is_not_evaluated(text: str) -> None:
    delivery = subject(LONG)
    evaluate_once = compile_expression("body.few[0]").evaluate
    evaluate_once(delivery)  # reading the body is not what is asked here
    started = time.process_time()

    with pytest.raises(
        ExpressionFailed, match=r"^it (could take too long|could become too large|goes over more than 10000 items)"
    ):
        compile_expression(text).evaluate(delivery)

    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("body.numbers.all(x, x >= 0)", True),
        ("body.few.map(x, x + 1).size()", 1000),
        ("body.text.matches('^a+$')", True),
        ("body.text.contains('ab')", False),
        ("body.numbers", LONG["numbers"]),
        ("body == body", True),
    ],
)
def test_large_bodies_are_no_reason_to_refuse_what_is_quick(text: str, value: Any) -> None:
    assert evaluate(text, LONG) == value


def test_what_many_expressions_take_together_is_bounded_too() -> None:
    delivery, expression = subject(LONG), compile_expression("body.few.map(x, x + 1).size()")

    def evaluate_often() -> None:
        for _ in range(20):
            expression.evaluate(delivery)

    with pytest.raises(ExpressionFailed):
        evaluate_often()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'"' + b"x" * 2_097_152 + b'"', "the body has 2097154 bytes, and expressions read up to 2097152"),
        (b"[" * 500 + b"]" * 500, "the body is nested deeper than 400 levels"),
    ],
)
def test_a_body_beyond_the_bounds_fails_only_what_reads_it(raw: bytes, message: str) -> None:
    assert failure("body == 1", raw=raw) == message
    assert evaluate("event.type", raw=raw) == "push"


def test_many_nulls_do_not_end_the_process() -> None:
    """The runtime's own way of giving back a null forgets to count it."""
    expression, delivery = compile_expression("[body, null, {'a': null}]"), subject([None] * 100)
    expression.evaluate(delivery)
    before = sys.getrefcount(None)

    for _ in range(100):
        expression.evaluate(delivery)

    assert sys.getrefcount(None) > before - 1000


PATHS = st.sampled_from(
    ["body", "body.a", "body.a.b", "body.?a.orValue(1)", "body['b']", "body[0]", "headers.x", "query.q"]
)
LITERALS = st.sampled_from(["1", "-1.5", "'a)'", '"é\\"b"', "true", "null", "[1, 'a']", "{'k': 1}", "b'z'", "2u"])


def combined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["&&", "||", "==", "!=", "<", ">=", "+", "-", "*", "/", "%", "in"])
    calls = st.sampled_from(["size(%s)", "string(%s)", "int(%s)", "!(%s)", "-(%s)", "type(%s) == int", "timestamp(%s)"])
    methods = st.sampled_from(
        [".size()", ".contains('a')", ".split('a')", ".lowerAscii()", "[0]", ".b", ".matches('a+')"]
    )
    macros = st.sampled_from([".all(x, %s)", ".exists(x, x == %s)", ".map(x, %s)", ".filter(x, x != %s)"])
    return st.one_of(
        st.tuples(parts, signs, parts).map(lambda three: f"({three[0]}) {three[1]} ({three[2]})"),
        st.tuples(parts, signs, parts).map(" ".join),
        st.tuples(calls, parts).map(lambda two: two[0] % two[1]),
        st.tuples(parts, methods).map(lambda two: f"({two[0]}){two[1]}"),
        st.tuples(PATHS, macros, parts).map(lambda three: three[0] + three[1] % three[2]),
        st.tuples(parts, parts, parts).map(lambda three: f"({three[0]}) ? ({three[1]}) : ({three[2]})"),
        st.lists(parts, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        parts.map(lambda value: f"{{'k': {value}}}"),
    )


EXPRESSIONS = st.recursive(st.one_of(PATHS, LITERALS), combined, max_leaves=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["a", "\0", "2020-01-01T00:00:00Z"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab\0") | st.text(), inner),
    max_leaves=12,
)


@given(text=EXPRESSIONS, body=VALUES)
@settings(max_examples=400, deadline=None)
def test_reading_only_the_fields_that_are_asked_for_changes_nothing(text: str, body: Any) -> None:
    try:
        expression = compile_expression(text)
    except BadExpression:
        return

    def found(*, is_narrow: bool) -> str:
        delivery = subject(body)
        if is_narrow:
            delivery.narrow(fields_read([expression]))
        try:
            return json.dumps(expression.evaluate(delivery))
        except ExpressionFailed as failed:
            return str(failed)

    assert found(is_narrow=True) == found(is_narrow=False)


@given(text=EXPRESSIONS, body=VALUES)
@settings(max_examples=400, deadline=None)
def test_whatever_is_asked_of_whatever_body_gives_a_value_or_fails(text: str, body: Any) -> None:
    """And what explain says of the whole is what evaluating it says."""
    try:
        expression = compile_expression(text)
    except BadExpression:
        return
    try:
        expected: tuple[str, Any] = ("value", json.dumps(expression.evaluate(subject(body))))
    except ExpressionFailed as failed:
        expected = ("error", str(failed))

    steps = expression.explain(subject(body), lambda _: False)

    assert all(text[step.column - 1 :].startswith(step.text) for step in steps)
    if steps and steps[0].text == text and not steps[0].is_cut:
        first = steps[0]
        masked = first.value == "***" or first.error == "why is not said, for it reads a secret header"
        assert masked or expected == (("error", first.error) if first.error else ("value", json.dumps(first.value)))
