"""What a schedule's expressions make of a delivery: whether it runs, with which variables, under which key."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from gateway import params
from gateway.expressions import (
    BadExpression,
    Expression,
    ExpressionFailed,
    Step,
    Subject,
    Wanted,
    compile_expression,
    fields_read,
)
from gateway.expressions.tree import Fields
from schemas.errors import FieldError, Invalid
from schemas.schedules import Gate, NewSchedule, Schedule
from schemas.states import Verdict

LARGEST_MAPPED = 256 * 1024
LONGEST_FINDING = 200
LONGEST_REASON = 2000
_NOT_STORED = "it is not evaluated again, for it reads a secret header or parameter, and those are not stored"

IsSecret = Callable[[str], bool]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of an explanation, with the values of an expression's parts where it is one."""

    step: str
    finding: str
    parts: list[Step] | None = None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules say of a delivery.

    `reason_code` is `filter_false`, `filter_failed`, `mapping_failed`, `params_invalid`, `dedupe_failed` or None, and
    `reason` the sentence for it. `variables` are the run's, `dedupe_key` is None when the rules name none.
    """

    verdict: Verdict = Verdict.ACCEPTED
    reason_code: str | None = None
    reason: str | None = None
    variables: msgspec.Raw
    dedupe_key: str | None = None


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The expressions of a schedule, as its owner wrote them, and whether its deliveries are split into their items."""

    filter: str | None = None
    mapping: dict[str, str] = {}
    dedupe: str | None = None
    split: bool = False

    @property
    def has_expressions(self) -> bool:
        return self.filter is not None or self.dedupe is not None or bool(self.mapping)

    def check(self, schema: Mapping[str, Any] | None = None) -> None:
        """Refuse expressions that do not compile, and variables that the params `schema` has no place for.

        Raises Invalid that points at each wrong one, with line, column and the place in the text.
        """
        errors = [
            error
            for pointer, text, wanted in self._expressions()
            if (error := _find_error(pointer, text, wanted)) is not None
        ]
        errors += _unknown_names(self.mapping, schema or {})
        if errors:
            raise Invalid(f"{errors[0].pointer[1:]}: {errors[0].message.splitlines()[0]}", errors=tuple(errors))

    @classmethod
    def of(cls, schedule: Gate | Schedule | NewSchedule) -> "Rules":
        """Read the rules of a schedule."""
        return cls(filter=schedule.filter, mapping=schedule.mapping, dedupe=schedule.dedupe, split=schedule.split)

    def explain(self, subject: Subject, is_secret: IsSecret, *, is_stored: bool = False) -> list[Finding]:
        """Give the value of each expression and of all its parts; of what `is_stored` no secret can be read again."""
        found = []
        for what, expression in self._compiled():
            if isinstance(expression, BadExpression):
                found.append(Finding(what, f"it cannot be read: {expression.message}"))
            elif is_stored and expression.reads_a_secret(is_secret):
                found.append(Finding(what, _NOT_STORED))
            else:
                found.append(_describe(what, expression.explain(subject, is_secret)))
        return found

    def read_a_secret(self, is_secret: IsSecret) -> bool:
        """Say whether they may judge otherwise where secrets are masked, as they are once a delivery is stored."""
        compiled = [expression for _, expression in self._compiled() if isinstance(expression, Expression)]
        return any(expression.reads_a_secret(is_secret) for expression in compiled)

    def _compiled(self) -> Iterator[tuple[str, Expression | BadExpression]]:
        """Compile all; one that another version has saved may be refused by this one."""
        for what, (_, text, wanted) in zip(self._names(), self._expressions(), strict=True):
            try:
                yield what, compile_expression(text, wanted)
            except BadExpression as error:
                yield what, error

    def _names(self) -> list[str]:
        mapped = [f"mapping of {name}" for name in self.mapping]
        return [*["filter"] * (self.filter is not None), *mapped, *["dedupe"] * (self.dedupe is not None)]

    def _expressions(self) -> list[tuple[str, str, Wanted]]:
        found: list[tuple[str, str, Wanted]] = []
        if self.filter is not None:
            found.append(("/filter", self.filter, "bool"))
        found += [(_pointer(name), text, "any") for name, text in self.mapping.items()]
        if self.dedupe is not None:
            found.append(("/dedupe", self.dedupe, "str"))
        return found


def judge(
    rules: Rules,
    subject: Subject,
    variables: msgspec.Raw,
    params_schema: Mapping[str, Any] | None,
    is_secret: IsSecret,
    *,
    given: Mapping[str, Any] = {},
) -> Judgement:
    """Apply the rules of a schedule with these variables; whatever goes wrong is a verdict, never an error.

    The filter decides first, for what it leaves out need not fit the rest. Variables that the sender has `given` win
    over those of the schedule, and what its owner maps wins over both.
    """
    try:
        if rules.filter is not None and not _passes(rules.filter, subject, is_secret):
            return _turned_away(Verdict.FILTERED, "filter_false", "The filter is false.", variables)
        subject.narrow(_fields((*rules.mapping.values(), rules.dedupe or "''")))
        mapped = _map(rules.mapping, subject, is_secret)
        key = None
        if rules.dedupe is not None:
            key = _value("dedupe key", rules.dedupe, "str", subject, is_secret)
            if not key:
                raise _Failed("dedupe_failed", "The dedupe key is an empty text.")
    except _Failed as error:
        return _turned_away(Verdict.REJECTED, error.code, str(error), variables)
    if given or mapped:
        merged = {**msgspec.json.decode(variables, type=dict[str, Any]), **given, **mapped}
        variables = msgspec.Raw(msgspec.json.encode(merged))
        if errors := params.find_errors(merged, params_schema):
            wrong = "; ".join(f"{error.pointer}: {error.message}" for error in errors)
            reason = f"The variables are not what the pipeline takes: {wrong}"
            return _turned_away(Verdict.REJECTED, "params_invalid", reason, variables)
    return Judgement(variables=variables, dedupe_key=key)


def _passes(text: str, subject: Subject, is_secret: IsSecret) -> bool:
    subject.narrow(_fields((text,)))
    return bool(_value("filter", text, "bool", subject, is_secret))


@lru_cache(maxsize=1024)
def _fields(texts: tuple[str, ...]) -> Fields:
    try:
        return fields_read(map(compile_expression, texts))
    except BadExpression:  # which is said where it is evaluated
        return None


class _Failed(Exception):
    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def _turned_away(verdict: Verdict, code: str, reason: str, variables: msgspec.Raw) -> Judgement:
    return Judgement(verdict=verdict, reason_code=code, reason=reason[:LONGEST_REASON], variables=variables)


def _map(mapping: Mapping[str, str], subject: Subject, is_secret: IsSecret) -> dict[str, Any]:
    mapped = {name: _value(f"mapping of {name!r}", text, "any", subject, is_secret) for name, text in mapping.items()}
    if mapping and len(msgspec.json.encode(mapped)) > LARGEST_MAPPED:
        raise _Failed("mapping_failed", f"The mapped variables are larger than {LARGEST_MAPPED} bytes.")
    return mapped


def _value(what: str, text: str, wanted: Wanted, subject: Subject, is_secret: IsSecret) -> Any:
    code = f"{what.partition(' ')[0]}_failed"
    try:
        expression: Expression = compile_expression(text, wanted)
    except BadExpression as error:  # it was checked when it was saved, perhaps by another version
        raise _Failed(code, f"The {what} cannot be read: {error.message}.") from None
    try:
        return expression.evaluate(subject)
    except ExpressionFailed as error:
        raise _Failed(code, f"The {what} has no value for this delivery: {expression.why(error, is_secret)}.") from None


def _describe(what: str, parts: list[Step]) -> Finding:
    whole = parts[0]
    if whole.error is not None:
        return Finding(what, f"it has no value: {whole.error}", parts)
    text = str(whole.value) if whole.is_cut else msgspec.json.encode(whole.value).decode()
    return Finding(what, text if len(text) <= LONGEST_FINDING else text[:LONGEST_FINDING] + "...", parts)


def _find_error(pointer: str, text: str, wanted: Wanted) -> FieldError | None:
    try:
        compile_expression(text, wanted)
    except BadExpression as error:
        return FieldError(pointer, f"line {error.line}, column {error.column}: {error.message}\n{error.hint}")
    return None


def _unknown_names(mapping: Mapping[str, str], schema: Mapping[str, Any]) -> list[FieldError]:
    if isinstance(reference := schema.get("$ref"), str):
        schema = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
    if schema.get("additionalProperties") is not False:
        return []
    known = sorted(schema.get("properties", {}))
    message = f"the pipeline takes no such variable; it takes {', '.join(known) or 'none'}"
    return [FieldError(_pointer(name), message) for name in mapping if name not in known]


def _pointer(name: str) -> str:
    return "/mapping/" + name.replace("~", "~0").replace("/", "~1")
