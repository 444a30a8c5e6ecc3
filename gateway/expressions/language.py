"""Compiling, evaluating and explaining one expression."""

import base64
import contextlib
import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Literal

import msgspec

from gateway.expressions import costs, tree
from gateway.expressions.runtime import FIELDS_OF_EVENT, RuntimeFailed, Values, compile_text
from gateway.expressions.subject import ExpressionFailed, Subject, fit
from gateway.expressions.tree import Node
from schemas.notify import MASK

Wanted = Literal["bool", "str", "any"]

LONGEST_TEXT = 10_000
DEEPEST_LOOPS = 3
MOST_STEPS = 100
LONGEST_SHOWN = 1000
_LIGHT_WORK = 500_000  # bytes times parts, below which nothing but a loop or a search can take long
_HEAVY = {"matches", "contains", "indexOf", "lastIndexOf", "replace", "join", "_+_", "format"}
_NAMES = {"bool": "true or false", "str": "a text"}
_TYPES = {"bool": {"BOOL", "DYN"}, "str": {"STRING", "DYN"}}
_ERROR = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_WRAPPED = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_READABLE = (
    (re.compile(r"^Key not found in map : (.*)$"), r"there is no field \1"),
    (re.compile(r"^Applying SELECT to non-message type$"), "a field is asked of something that is no object"),
    (re.compile(r"^Iteration budget exceeded$"), f"it goes over more than {costs.MOST_ROUNDS} items"),
    (re.compile(r"^No matching overloads found : (.*)$"), r"these types do not go together: \1"),
    (re.compile(r"^optional.none\(\) dereference$"), "an optional value is not there"),
)
_UNEXPECTED = re.compile(r"(?:mismatched|extraneous) input ('.*?') expecting ")
_WITH_SECRETS = {"headers", "query"}
_OPEN = "an optional value must be opened: with .orValue(...), .hasValue() or .value()"
_OPTIONAL_MAKERS = {"_?._", "_[?_]", "optional.of", "optional.ofNonZeroValue", "optional.none", "or", "first", "last"}
_OPTIONAL_TAKERS = {"_?._", "_[?_]", "_[_]", "or", "orValue", "hasValue", "value"}


class BadExpression(Exception):
    """A text is not an expression that may be used; `line` and `column` count from 1."""

    def __init__(self, message: str, text: str, line: int = 1, column: int = 1) -> None:
        self.message = message
        self.line = max(line, 1)
        self.column = max(column, 1)
        self._text = text
        super().__init__(message)

    @property
    def hint(self) -> str:
        """The line with a caret below the place."""
        lines = self._text.splitlines() or [""]
        line = lines[min(self.line, len(lines)) - 1]
        start = max(0, self.column - 60)
        return f"{line[start : start + 120]}\n{' ' * (self.column - 1 - start)}^"


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of an expression and what it is for one delivery: a `value`, or the `error` why it has none.

    A value of more than 1,000 characters of JSON is the beginning of that text, and `is_cut`.
    """

    text: str
    line: int
    column: int
    value: Any = msgspec.UNSET
    error: str | None = None
    is_cut: bool = False


class Expression:
    """A compiled expression, to be evaluated as often as you like, from one thread at a time."""

    def __init__(self, text: str, wanted: Wanted) -> None:
        self.text = text
        self._wanted = wanted
        try:
            self._program = compile_text(text)
        except RuntimeFailed as error:
            raise _complaint(str(error), text) from None
        self.root = tree.parse(self._program.serialize())
        _check(self.root, text)
        if self._program.type not in _TYPES.get(wanted, {self._program.type}):
            raise BadExpression(f"it must give {_NAMES[wanted]}, and gives {self._program.type}", text)
        nodes = list(self.root.walk())
        self._reads_body = any(node.kind == "ident" and node.name == "body" for node in nodes)
        self._is_heavy = any(node.kind == "loop" or node.name in _HEAVY for node in nodes)
        self._parts = len(nodes)
        self._is_large = wanted == "any" and self._program.type.startswith(("LIST", "MAP", "DYN"))
        path = tree.path_of(self.root)
        self._path = path[1] if path and path[0] == "body" else None

    @property
    def is_path(self) -> bool:
        return self._path is not None

    def evaluate(self, subject: Subject) -> Any:
        """Give its value as JSON has it; raises ExpressionFailed.

        Times become RFC 3339 text, durations seconds such as `1.5s`, bytes base64.
        """
        value = self._value(subject)
        if self._wanted == "bool" and not isinstance(value, bool):
            raise ExpressionFailed(f"it must give true or false, and gave {_kind(value)}")
        if self._wanted == "str" and not isinstance(value, str):
            raise ExpressionFailed(f"it must give a text, and gave {_kind(value)}: string(...) makes it one")
        return value

    def _value(self, subject: Subject) -> Any:
        _spend(subject, costs.LEAST_NS)
        if self._path is not None and (value := subject.find("body", self._path)) is not None:
            return as_json(fit(value))  # it is here already; the runtime would give it back part by part
        values = self._values(subject)
        if self._is_heavy or self._is_large or self._parts * subject.size > _LIGHT_WORK:
            self._check_cost(subject)
        try:
            return as_json(self._program.run(values))
        except RuntimeFailed as error:
            raise ExpressionFailed(_readable(str(error))) from None

    def _values(self, subject: Subject) -> Values:
        if self._path is None:
            return subject.values(with_body=self._reads_body)
        return subject.values_of(tree.fields_of([self.root], "body"))  # to hear why there is nothing at that path

    def explain(self, subject: Subject, is_secret: Callable[[str], bool]) -> list[Step]:
        """Evaluate it and each of its parts on its own, those that could be read from a secret header masked.

        What stands inside a macro is left out, since it has another value for each item.
        """
        subject.budget.spent_ns = 0.0  # each may take as long as all together, for nobody waits at the gate
        found = {self.text: self._step(self.text, 0, self.root, subject, is_secret)}
        pieces = tree.Text(self.text)
        for node in _shown(self.root):
            start, end = pieces.span(node) if node is not self.root else (0, len(self.text))
            text = self.text[start:end]
            if text not in found and len(found) < MOST_STEPS:
                with contextlib.suppress(BadExpression):  # the whole is explained even if a part cannot stand alone
                    found[text] = self._step(text, start, node, subject, is_secret)
        return list(found.values())

    def why(self, error: ExpressionFailed, is_secret: Callable[[str], bool]) -> str:
        """Say why it has no value, in words that may be stored: no secret header is in them."""
        return _without_secrets(str(error), self.root, is_secret)

    def reads_a_secret(self, is_secret: Callable[[str], bool]) -> bool:
        """Say whether it may have another value where secrets are masked, as they are once a delivery is stored."""
        return _reads_a_secret(self.root, is_secret)

    def _step(self, text: str, start: int, node: Node, subject: Subject, is_secret: Callable[[str], bool]) -> Step:
        before = self.text[:start]
        line, column = before.count("\n") + 1, start - (before.rfind("\n") + 1) + 1
        try:
            value = compile_expression(text, self._wanted if node is self.root else "any").evaluate(subject)
        except ExpressionFailed as error:
            return Step(text=text, line=line, column=column, error=_without_secrets(str(error), node, is_secret))
        if not isinstance(value, bool) and _reads_a_secret(node, is_secret):
            return Step(text=text, line=line, column=column, value=MASK)
        encoded = msgspec.json.encode(value).decode()
        if len(encoded) > LONGEST_SHOWN:
            return Step(text=text, line=line, column=column, value=encoded[:LONGEST_SHOWN], is_cut=True)
        return Step(text=text, line=line, column=column, value=value)

    def _check_cost(self, subject: Subject) -> None:
        cost = costs.measure(self.root, subject, is_read_back=self._is_large)
        _spend(subject, cost.time)
        if cost.size > costs.LARGEST_RESULT:
            raise ExpressionFailed("it could become too large for a body of this size")


def _spend(subject: Subject, time_ns: float) -> None:
    subject.budget.spent_ns += time_ns
    if subject.budget.spent_ns > costs.LONGEST_NS:
        raise ExpressionFailed("it could take too long for a delivery of this size")


@lru_cache(maxsize=4096)
def compile_expression(text: str, wanted: Wanted = "any") -> Expression:
    """Compile and check an expression; raises BadExpression."""
    if len(text) > LONGEST_TEXT:
        raise BadExpression(f"it has {len(text)} characters, and may have {LONGEST_TEXT}", text)
    if "\0" in text:
        raise BadExpression("it holds a NUL: write \\u0000 inside a text", text.replace("\0", "?"))
    return Expression(text, wanted)


def fields_read(expressions: Iterable[Expression]) -> tree.Fields:
    """Say which fields of the body these expressions read; see `Subject.narrow`.

    Those that are nothing but a path are left out, for the runtime is not asked about them.
    """
    return tree.fields_of([expression.root for expression in expressions if not expression.is_path], "body")


def as_json(value: Any) -> Any:
    """Turn what the runtime gives into what JSON has; raises ExpressionFailed for what it has not."""
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            if math.isfinite(value):
                return value
            raise ExpressionFailed(f"it gives {value}, which is no number in JSON")
        case list():
            return [as_json(item) for item in value]
        case dict():
            if not all(isinstance(name, str) for name in value):
                raise ExpressionFailed("it gives an object with names that are no texts, which JSON does not have")
            return {name: as_json(value[name]) for name in sorted(value)}
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case dt.datetime():
            return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    seconds: float = value.total_seconds()
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
    return "an object"


def _complaint(message: str, text: str) -> BadExpression:
    """Read the first error that the compiler found."""
    if hit := _ERROR.search(message):
        line, column, what = int(hit[1]), int(hit[2]), _WRAPPED.sub("", hit[3]).removeprefix("Syntax error: ")
        if "undeclared reference to 'event" in what:
            what = f"event has the fields {', '.join(FIELDS_OF_EVENT)}"
        if unexpected := _UNEXPECTED.match(what):
            what = "it ends too early" if unexpected[1] == "'<EOF>'" else f"{unexpected[1]} is not expected here"
        return BadExpression(what, text, line, column)
    return BadExpression(_WRAPPED.sub("", message).removeprefix("Expression "), text)


def _readable(message: str) -> str:
    message = _WRAPPED.sub("", _WRAPPED.sub("", message))
    for pattern, replacement in _READABLE:
        message = pattern.sub(replacement, message)
    return message


def _check(root: Node, text: str) -> None:
    """Refuse what the runtime allows and we do not; raises BadExpression."""
    if root.type == tree.NESTED_OPTIONAL or _is_optional(root):
        raise BadExpression(_OPEN, text)
    for node in root.walk():
        if node.kind == "struct" and node.name:
            raise _at(node, text, f"messages such as {node.name} are not known here: write an object, {{...}}")
        for index, part in enumerate(node.parts):
            if part.type == tree.NESTED_OPTIONAL or (_is_optional(part) and not _takes_optional(node, index)):
                raise _at(part, text, _OPEN)
        if node.name == "matches" and node.kind == "call":
            _check_pattern(node, text)
    if _loops(root) > DEEPEST_LOOPS:
        raise BadExpression(f"macros stand inside each other more than {DEEPEST_LOOPS} deep", text)


def _is_optional(node: Node) -> bool:
    """Say whether a part may give an optional value; of what is `dyn` the types alone do not tell."""
    if node.type == tree.OPTIONAL or (node.kind == "call" and node.name in _OPTIONAL_MAKERS):
        return True
    if node.kind == "select" or node.name == "_[_]":
        return not node.is_test and _is_optional(node.parts[0])
    return node.name == "_?_:_" and any(map(_is_optional, node.parts[1:]))


def _takes_optional(node: Node, index: int) -> bool:
    """Say whether a part may be optional: only where it does not get into a value.

    The bindings crash when they give back an object that holds an empty one.
    """
    if index in node.optional_parts or node.kind == "select":
        return True
    if node.name == "_?_:_":
        return index > 0
    if node.kind == "loop":
        return node.type == tree.OPTIONAL and index == len(node.parts) - 1
    return node.name in _OPTIONAL_TAKERS and (index == 0 or node.name == "or")


def _check_pattern(node: Node, text: str) -> None:
    pattern = node.parts[1]
    if pattern.kind != "const":
        raise _at(node, text, "the pattern of matches() must be written out as a text")
    if costs.states(str(pattern.value)) > costs.LARGEST_PATTERN:
        raise _at(pattern, text, "this pattern is too large")
    try:
        compile_text(f"''.matches({msgspec.json.encode(pattern.value).decode()})").run(Values({}))
    except RuntimeFailed as error:
        raise _at(pattern, text, _readable(str(error))) from None


def _at(node: Node, text: str, message: str) -> BadExpression:
    before = text[: max(node.at, 0)]
    return BadExpression(message, text, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _loops(node: Node) -> int:
    return max((_loops(part) for part in node.parts), default=0) + (node.kind == "loop")


def _shown(node: Node, *, is_inside_a_path: bool = False) -> Iterator[Node]:
    """Go over the parts that are worth a line: no literals, and of a path only the whole."""
    is_step = node.kind == "select" or (node.kind == "call" and node.name in {"_[_]", "_[?_]", "_?._"})
    is_line = node.kind in {"select", "call", "loop", "ident"} and node.name not in {"body", *_WITH_SECRETS}
    if is_line and not is_inside_a_path and not _is_optional(node):
        yield node
    if node.is_test:
        return
    if node.kind == "loop":
        yield from _shown(node.parts[0])
        return
    if node.kind == "call" and node.name == "_?_:_" and _is_optional(node):
        return
    for index, part in enumerate(node.parts):
        yield from _shown(part, is_inside_a_path=is_step and index == 0)


def _without_secrets(message: str, node: Node, is_secret: Callable[[str], bool]) -> str:
    return "why is not said, for it reads a secret header" if _reads_a_secret(node, is_secret) else message


def _reads_a_secret(node: Node, is_secret: Callable[[str], bool]) -> bool:
    """Say whether a value may hold a secret header or parameter: all but those whose harmless name is written out."""
    if node.kind == "ident":
        return node.name in _WITH_SECRETS
    if node.parts and node.parts[0].kind == "ident" and node.parts[0].name in _WITH_SECRETS:
        if node.is_test:
            return False
        if path := tree.path_of(node):
            return is_secret(str(path[1][0]).lower())
    return any(_reads_a_secret(part, is_secret) for part in node.parts)
