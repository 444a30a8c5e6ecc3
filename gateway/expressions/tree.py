"""A compiled expression as a tree: which part is which piece of the text, and of what kind.

The runtime serializes what it has checked as `cel.expr.CheckedExpr` (cel-spec, `proto/cel/expr/checked.proto`). That is
read here without a protobuf library: a dozen fields of it are enough.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

Fields = Mapping[str, Any] | None
OPTIONAL = "optional"
NESTED_OPTIONAL = "nested optional"
_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
    | (?P<string>(?:[rR][bB]?|[bB][rR]?)?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''))
    | (?P<raw>(?:[rR][bB]?|[bB][rR])(?:"[^"\n]*"|'[^'\n]*'))
    | (?P<line>[bB]?(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[uU]?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*|`[^`\n]*`)
    | (?P<sign>==|!=|<=|>=|&&|\|\||.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING = {"(": ")", "[": "]", "{": "}"}
_INDEXES = {"_[_]", "_[?_]"}
_STEPS = _INDEXES | {"_?._"}
_BINARY = {f"_{sign}_" for sign in ("&&", "||", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%")} | {"@in"}
_UNARY = {"!_", "-_"}


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One part of an expression.

    `kind` is `const`, `ident`, `select`, `call`, `list`, `struct` or `loop` (a macro over items); `name` that of the
    identifier, field, function or message. Of a call with a `target` that is the first of the `parts`; those of a loop
    are what it goes over, the first value, the condition, the step and the result, and `variables` its own names.
    `at` is the place in the text that the parser gave it, an operator's own for example.
    """

    kind: str
    at: int
    type: str = "dyn"
    name: str = ""
    value: Any = None
    parts: tuple["Node", ...] = ()
    has_target: bool = False
    is_test: bool = False
    variables: tuple[str, ...] = ()
    optional_parts: frozenset[int] = frozenset()

    def walk(self) -> Iterator["Node"]:
        """Go over this node and all below it."""
        yield self
        for part in self.parts:
            yield from part.walk()


def parse(serialized: bytes) -> Node:
    """Read what the runtime serialized."""
    checked = _fields(_only(_fields(serialized), 2))
    types = {_only(entry, 1): _type(_only(entry, 2, b"")) for entry in map(_fields, checked.get(3, ()))}
    source = _fields(_only(checked, 5, b""))
    positions = {_only(entry, 1): _only(entry, 2, 0) for entry in map(_fields, source.get(4, ()))}
    return _Reader(types, positions).read(_only(checked, 4))


class _Reader:
    def __init__(self, types: Mapping[int, str], positions: Mapping[int, int]) -> None:
        self._types = types
        self._positions = positions

    def read(self, encoded: bytes) -> Node:
        fields = _fields(encoded)
        number = _only(fields, 2, 0)
        kind = next((kind for kind in fields if kind > 2), 0)
        content = _fields(_only(fields, kind, b""))
        given: dict[str, Any] = {"at": self._positions.get(number, -1), "type": self._types.get(number, "dyn")}
        match kind:
            case 3:
                return Node(kind="const", value=_constant(content), **given)
            case 4:
                return Node(kind="ident", name=_text(content, 1), **given)
            case 5:
                operand = self.read(_only(content, 1))
                is_test = bool(_only(content, 3, 0))
                return Node(kind="select", name=_text(content, 2), parts=(operand,), is_test=is_test, **given)
            case 6:
                parts = tuple(map(self.read, (*content.get(1, ()), *content.get(3, ()))))
                return Node(kind="call", name=_text(content, 2), parts=parts, has_target=1 in content, **given)
            case 7:
                parts = tuple(map(self.read, content.get(1, ())))
                optional = frozenset(b"".join(content.get(2, ())))
                return Node(kind="list", parts=parts, optional_parts=optional, **given)
            case 8:
                return self._struct(content, given)
        names = (_text(content, 1), _text(content, 8), _text(content, 3))
        parts = tuple(self.read(_only(content, part)) for part in (2, 4, 5, 6, 7))
        return Node(kind="loop", variables=tuple(filter(None, names)), parts=parts, **given)

    def _struct(self, content: Mapping[int, list[Any]], given: dict[str, Any]) -> Node:
        parts: list[Node] = []
        optional = set()
        for entry in map(_fields, content.get(2, ())):
            parts += [self.read(key) for key in entry.get(3, ())]
            if _only(entry, 5, 0):
                optional.add(len(parts))
            parts.append(self.read(_only(entry, 4)))
        name = _text(content, 1)
        return Node(kind="struct", name=name, parts=tuple(parts), optional_parts=frozenset(optional), **given)


def path_of(node: Node) -> tuple[str, tuple[str | int, ...]] | None:
    """Read a path such as `body.commits[0].id` as its root and its steps, if a part is nothing but that."""
    steps: list[str | int] = []
    while node.kind != "ident":
        if node.kind == "select" and not node.is_test:
            steps.append(node.name)
        elif node.kind == "call" and node.name in _STEPS and type(node.parts[1].value) in (str, int):
            steps.append(node.parts[1].value)
        else:
            return None
        node = node.parts[0]
    return node.name, tuple(reversed(steps))


def fields_of(nodes: Iterable[Node], root: str) -> Fields:
    """Say which fields of an object expressions read, as a tree of their names; None where they read all of it.

    `body.a.b == body.c` gives `{"a": {"b": None}, "c": None}`.
    """
    fields: dict[str, Any] = {}
    for path in (path for node in nodes for path in _paths(node, root)):
        if not path:
            return None
        below = fields
        for step in path[:-1]:
            below = below.setdefault(step, {})
            if below is None:
                break
        else:
            below[path[-1]] = None
    return fields


def _paths(node: Node, root: str) -> Iterator[tuple[str, ...]]:
    """Find all paths from a root, each up to where its steps are no names."""
    whole = path_of(msgspec.structs.replace(node, is_test=False))
    if whole is None:
        for part in node.parts:
            yield from _paths(part, root)
    elif whole[0] == root:
        yield _names_of(whole[1])


def _names_of(path: tuple[str | int, ...]) -> tuple[str, ...]:
    names = []
    for step in path:
        if isinstance(step, int):
            break
        names.append(step)
    return tuple(names)


class Text:
    """The text of an expression, cut into tokens, to find which piece of it a node is."""

    def __init__(self, text: str) -> None:
        self._text = text
        found = [hit for hit in _TOKEN.finditer(text) if hit.lastgroup != "space"]
        self._tokens = [hit.group() for hit in found]
        self._names = [hit.lastgroup == "name" and hit.group() != "in" for hit in found]
        self._spans = [hit.span() for hit in found]
        self._index = {start: index for index, (start, _) in enumerate(self._spans)}
        self._closing: dict[int, int] = {}
        opened: list[int] = []
        for index, hit in enumerate(found):
            if hit.lastgroup == "sign" and hit.group() in _OPENING:
                opened.append(index)
            elif hit.lastgroup == "sign" and hit.group() in _OPENING.values():
                self._closing[opened.pop()] = index

    def span(self, node: Node) -> tuple[int, int]:
        """Say from where to where a node reaches, without parentheses around it."""
        first, last = self._tokens_of(node)
        return self._spans[first][0], self._spans[last][1]

    def _tokens_of(self, node: Node) -> tuple[int, int]:
        at = self._index[node.at]
        match node.kind:
            case "const":
                return at, at + (self._tokens[at] == "-")
            case "ident":
                dots = node.name.count(".") if self._tokens[at] == "." else 0  # it is at the last one
                return (at + 1 - 2 * dots, at + 1) if dots else (at, at)
            case "select" if not node.is_test:
                return self._around(node.parts[0])[0], at + 1
            case "select":
                return at - 1, self._closing[at]
            case "call":
                return self._of_call(node, at)
            case "loop":
                return self._around(node.parts[0])[0], self._closing[at]
        return at, self._closing[at]

    def _of_call(self, node: Node, at: int) -> tuple[int, int]:
        parts = node.parts
        if node.name in _BINARY:
            return self._around(parts[0])[0], self._around(parts[1])[1]
        if node.name in _UNARY:
            return at, self._around(parts[0])[1]
        if node.name == "_?_:_" and self._tokens[at] == "?":
            return self._around(parts[0])[0], self._around(parts[2])[1]
        if node.name == "_?._":
            return self._around(parts[0])[0], at + 2
        if node.name in _INDEXES:
            return self._around(parts[0])[0], self._closing[at]
        if node.name == "_?_:_":  # what optMap stands for: its condition is target.hasValue()
            return self._around(parts[0].parts[0])[0], self._closing[at]
        if node.has_target:
            return self._around(parts[0])[0], self._closing[at]
        first = at - 1
        while first > 1 and self._tokens[first - 1] == ".":
            first -= 2
        return first, self._closing[at]

    def _around(self, node: Node) -> tuple[int, int]:
        """Take in the parentheses that stand around a node for the sake of its order only."""
        first, last = self._tokens_of(node)
        while first > 0 and self._closing.get(first - 1) == last + 1 and self._groups(first - 1):
            first, last = first - 1, last + 1
        return first, last

    def _groups(self, opening: int) -> bool:
        return self._tokens[opening] == "(" and not (opening > 0 and self._names[opening - 1])


def _fields(encoded: bytes) -> dict[int, list[Any]]:
    """Read the wire format of protocol buffers: varints as int, the rest as bytes."""
    fields: dict[int, list[Any]] = {}
    place = 0
    value: Any
    while place < len(encoded):
        key, place = _varint(encoded, place)
        match key & 7:
            case 0:
                value, place = _varint(encoded, place)
            case 1:
                value, place = encoded[place : place + 8], place + 8
            case _:
                size, place = _varint(encoded, place)
                value, place = encoded[place : place + size], place + size
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _varint(encoded: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = encoded[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
        shift += 7


def _only(fields: Mapping[int, list[Any]], number: int, default: Any = None) -> Any:
    found = fields.get(number)
    return found[-1] if found else default


def _text(fields: Mapping[int, list[Any]], number: int) -> str:
    found: bytes = _only(fields, number, b"")
    return found.decode()


def _constant(fields: Mapping[int, list[Any]]) -> Any:
    """Read a literal; a number is only as good as what is asked of it here: how large it is."""
    kind, values = next(iter(fields.items()))
    value: Any = values[0]
    match kind:
        case 1:
            return None
        case 2:
            return bool(value)
        case 5:
            return struct.unpack("<d", value)[0]
        case 6:
            return value.decode()
        case 3:
            return value - (1 << 64) if value >> 63 else value
    return value


def _type(encoded: bytes) -> str:
    """Name the types that matter here; `cel.expr.Type` of an optional one is field 14."""
    if b"optional_type" not in encoded:
        return "other"
    return OPTIONAL if encoded[0] == 14 << 3 | 2 and encoded.count(b"optional_type") == 1 else NESTED_OPTIONAL
