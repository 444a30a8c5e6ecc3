"""What a schedule's rules make of a delivery: a verdict, whatever happens."""

from typing import Any

import msgspec
import pytest

from gateway.expressions import Step
from gateway.rules import Finding, Judgement, Rules, judge
from schemas.errors import FieldError, Invalid
from schemas.states import Verdict
from tests.gateway.deliveries import is_secret, subject

BODY = {"ref": "refs/heads/main", "forced": False, "size": 3, "none": None}
SCHEMA = {
    "type": "object",
    "properties": {"region": {"type": "string"}, "size": {"type": "integer", "maximum": 9}},
    "additionalProperties": False,
}


def judged(rules: Rules, variables: bytes = b'{"region":"eu"}', schema: Any = None) -> Judgement:
    return judge(rules, subject(BODY), msgspec.Raw(variables), schema, is_secret)


def turned_away(verdict: Verdict, code: str, reason: str, variables: bytes = b'{"region":"eu"}') -> Judgement:
    return Judgement(verdict=verdict, reason_code=code, reason=reason, variables=msgspec.Raw(variables))


def test_without_rules_a_delivery_is_accepted_as_it_is() -> None:
    assert judged(Rules()) == Judgement(variables=msgspec.Raw(b'{"region":"eu"}'))


def test_a_filter_that_is_true_lets_in_and_a_mapping_is_laid_over_the_variables() -> None:
    rules = Rules(filter="body.size == 3", mapping={"size": "body.size", "branch": "body.ref.split('/')[2]"})

    assert judged(rules) == Judgement(variables=msgspec.Raw(b'{"region":"eu","size":3,"branch":"main"}'))


def test_what_is_mapped_wins_over_the_variable_of_the_schedule() -> None:
    assert judged(Rules(mapping={"region": "event.type"})).variables == msgspec.Raw(b'{"region":"push"}')


def test_a_dedupe_key_is_a_text_that_the_rules_make() -> None:
    assert judged(Rules(dedupe="body.ref + '@' + event.id")).dedupe_key == "refs/heads/main@d-1"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (Rules(filter="body.forced"), turned_away(Verdict.FILTERED, "filter_false", "The filter is false.")),
        (
            Rules(filter="body.action == 'opened'"),
            turned_away(
                Verdict.REJECTED,
                "filter_failed",
                'The filter has no value for this delivery: there is no field "action".',
            ),
        ),
        (
            Rules(filter="body.size"),
            turned_away(
                Verdict.REJECTED,
                "filter_failed",
                "The filter has no value for this delivery: it must give true or false, and gave a number.",
            ),
        ),
        (
            Rules(mapping={"ok": "body.size", "bad": "1 / (body.size - 3)"}),
            turned_away(
                Verdict.REJECTED,
                "mapping_failed",
                "The mapping of 'bad' has no value for this delivery: divide by zero.",
            ),
        ),
        (
            Rules(mapping={"large": "'x'" + ".replace('x', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx')" * 4}),
            turned_away(Verdict.REJECTED, "mapping_failed", "The mapped variables are larger than 262144 bytes."),
        ),
        (
            Rules(dedupe="body.size"),
            turned_away(
                Verdict.REJECTED,
                "dedupe_failed",
                "The dedupe key has no value for this delivery: it must give a text, and gave a number: "
                "string(...) makes it one.",
            ),
        ),
        (Rules(dedupe="''"), turned_away(Verdict.REJECTED, "dedupe_failed", "The dedupe key is an empty text.")),
        (
            Rules(filter="headers.authorization == 'a' || headers[headers.authorization] == ''"),
            turned_away(
                Verdict.REJECTED,
                "filter_failed",
                "The filter has no value for this delivery: why is not said, for it reads a secret header.",
            ),
        ),
        (
            Rules(filter="saved by another version"),
            turned_away(Verdict.REJECTED, "filter_failed", "The filter cannot be read: 'by' is not expected here."),
        ),
    ],
)
def test_what_goes_wrong_is_a_verdict_with_its_reason(rules: Rules, expected: Judgement) -> None:
    assert judged(rules) == expected


def test_a_reason_quotes_only_the_beginning_of_what_is_wrong() -> None:
    schema = {"type": "object", "properties": {name: {"enum": ["a" * 200]} for name in "abcdefghij"}}

    found = judged(Rules(mapping=dict.fromkeys("abcdefghij", "'x'")), schema=schema)

    assert found.reason_code == "params_invalid"
    assert found.reason is not None
    assert len(found.reason) == 2000


def test_rules_of_another_version_are_explained_too() -> None:
    rules = Rules(filter="saved by another version", dedupe="event.id")

    findings = rules.explain(subject(BODY), is_secret)

    assert findings[0] == Finding("filter", "it cannot be read: 'by' is not expected here")
    assert not rules.read_a_secret(is_secret)


def test_the_filter_decides_before_the_mapping_can_fail() -> None:
    rules = Rules(filter="event.type == 'ping'", mapping={"x": "body.missing"}, dedupe="body.missing")

    assert judged(rules).reason_code == "filter_false"


def test_mapped_variables_are_compared_with_the_params() -> None:
    found = judged(Rules(mapping={"size": "body.size * 10", "branch": "body.ref"}), schema=SCHEMA)

    assert (found.verdict, found.reason_code) == (Verdict.REJECTED, "params_invalid")
    assert found.reason is not None
    assert found.reason.startswith("The variables are not what the pipeline takes: ")
    assert "/variables/size: 30 is greater than the maximum of 9" in found.reason
    assert "branch" in found.reason


def test_without_a_mapping_the_params_were_checked_long_before() -> None:
    assert judged(Rules(filter="true"), b'{"size":"x"}', SCHEMA).verdict is Verdict.ACCEPTED


def test_rules_that_can_be_used_are_let_through() -> None:
    Rules(filter="body.a", mapping={"size": "1", "region": "'x'"}, dedupe="body.id", split=True).check(SCHEMA)


def test_each_expression_that_cannot_be_used_is_pointed_at() -> None:
    rules = Rules(filter="body.a &&\n  bdy", mapping={"a/b": "1 +", "size": "1"}, dedupe="1")

    with pytest.raises(Invalid) as refused:
        rules.check()

    assert refused.value.errors == (
        FieldError("/filter", "line 2, column 3: undeclared reference to 'bdy' (in container '')\n  bdy\n  ^"),
        FieldError("/mapping/a~1b", "line 1, column 4: it ends too early\n1 +\n   ^"),
        FieldError("/dedupe", "line 1, column 1: it must give a text, and gives INT\n1\n^"),
    )
    assert refused.value.message.startswith("filter: line 2, column 3: undeclared reference")


@pytest.mark.parametrize("schema", [SCHEMA, {"$ref": "#/$defs/Params", "$defs": {"Params": SCHEMA}}])
def test_a_mapping_to_a_variable_that_the_pipeline_does_not_take_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        Rules(mapping={"size": "1", "sise": "1"}).check(schema)

    assert refused.value.errors == (
        FieldError("/mapping/sise", "the pipeline takes no such variable; it takes region, size"),
    )


def test_rules_are_explained_expression_by_expression() -> None:
    rules = Rules(filter="body.size > 2", mapping={"branch": "body.ref"}, dedupe="body.id")

    findings = rules.explain(subject(BODY), is_secret)

    assert findings == [
        Finding(
            "filter",
            "true",
            [
                Step(text="body.size > 2", line=1, column=1, value=True),
                Step(text="body.size", line=1, column=1, value=3),
            ],
        ),
        Finding(
            "mapping of branch",
            '"refs/heads/main"',
            [Step(text="body.ref", line=1, column=1, value="refs/heads/main")],
        ),
        Finding(
            "dedupe",
            'it has no value: there is no field "id"',
            [Step(text="body.id", line=1, column=1, error='there is no field "id"')],
        ),
    ]
