"""How long an expression may take over one delivery, said before it is evaluated.

The runtime ends an evaluation after 10,000 rounds of its macros, but not what happens within one round, and it cannot
be interrupted. So the worst case is estimated from the size of what the expression reads, and what could hold up the
event loop is not evaluated. The figures are nanoseconds, measured on one core of 2020s hardware and rounded up.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from gateway.expressions.tree import Node, path_of

LONGEST_NS = 100e6
LEAST_NS = 20e3  # what the smallest evaluation takes, with all around it
LARGEST_RESULT = 16 * 1024 * 1024
MOST_ROUNDS = 10_000
LARGEST_PATTERN = 1_000
_STEP = 150.0
_PER_BYTE_TO_COMPARE = 18.0  # of lists and objects; of texts it is less
_PER_BYTE_TO_READ = 1.0
_PER_BYTE_TO_MATCH = 5.0
_PER_STATE_TO_MATCH = 14.0  # when RE2 gives up its automaton, for patterns with many states
_FEW_STATES = 64
_PER_PATTERN = 6_000.0  # it is compiled each time
_PER_STATE_OF_PATTERN = 250.0
_PER_ITEM_TO_COPY = 25.0  # map and filter copy what they have at each item that they add
_PER_BYTE_TO_CUT = 80.0
_PER_BYTE_TO_READ_BACK = 300.0
_REPEATED = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}")

_LOOKUPS = {"_[_]", "_[?_]", "_?._"}
_COMPARISONS = {"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in"}
_CHOICES = {"_&&_", "_||_", "_?_:_", "or", "orValue"}
_SEARCHES = {"contains", "indexOf", "lastIndexOf"}


class Measure(msgspec.Struct, frozen=True):
    """What a part costs: nanoseconds, and the size of what comes out in bytes of JSON, about."""

    time: float
    size: float


class Sizes(Protocol):
    """What is known of the size of a delivery's parts."""

    def find(self, root: str, path: Sequence[str | int]) -> Any:
        """Give the value at a path, or None."""

    def size_of(self, root: str, path: Sequence[str | int]) -> int:
        """Give the size of the JSON of the value at a path."""


def measure(node: Node, sizes: Sizes, *, is_read_back: bool) -> Measure:
    """Estimate the worst case of an expression over a delivery, and of reading back what may be a list or object."""
    found = _Estimate(sizes).of(node, {})
    return Measure(found.time + is_read_back * found.size * _PER_BYTE_TO_READ_BACK, found.size)


def states(pattern: str) -> int:
    """Bound the size of the automaton of a regular expression, whose counted repetitions RE2 writes out."""
    size = len(pattern)
    for least, most in _REPEATED.findall(pattern):
        size = min(size * max(int(least), int(most or 0), 1), 10 * LARGEST_PATTERN)
    return size


class _Estimate:
    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes

    def of(self, node: Node, scope: Mapping[str, float]) -> Measure:
        match node.kind:
            case "const":
                return Measure(_STEP, len(node.value) if isinstance(node.value, str | bytes) else 8)
            case "ident" | "select":
                return self._of_path(node, scope)
            case "call":
                return self._of_call(node, scope)
            case "loop":
                return self._of_loop(node, scope)
        return self._sum(node.parts, scope)

    def _of_path(self, node: Node, scope: Mapping[str, float]) -> Measure:
        path = path_of(node)
        if path is None:
            below = self.of(node.parts[0], scope)
            return Measure(below.time + _STEP, below.size)
        root, steps = path
        size = scope[root] if root in scope else self._sizes.size_of(root, steps)
        return Measure((len(steps) + 1) * _STEP, size)

    def _of_call(self, node: Node, scope: Mapping[str, float]) -> Measure:
        if node.name in _LOOKUPS and path_of(node):
            return self._of_path(node, scope)
        parts = [self.of(part, scope) for part in node.parts]
        time = _STEP + sum(part.time for part in parts)
        sizes = [part.size for part in parts]
        total = sum(sizes)
        if node.name in _CHOICES:
            return Measure(time, max(sizes))
        if node.name in _LOOKUPS:
            return Measure(time, sizes[0])
        if node.name == "matches":
            return Measure(time + self._matching(node, sizes[0]), 8)
        if node.name == "@in" and node.parts[1].kind != "list":
            return Measure(time + sizes[1] * _PER_BYTE_TO_COMPARE, 8)
        if node.name in _COMPARISONS:
            return Measure(time + min(sizes) * _PER_BYTE_TO_COMPARE, 8)
        if node.name in _SEARCHES:
            return Measure(time + sizes[0] * (_PER_BYTE_TO_READ + sizes[1] / 50), 8)
        if node.name in {"replace", "split", "join"}:
            return self._of_pieces(node.name, time, *sizes)
        if node.name in {"format", "strings.quote", "base64.encode"}:
            return Measure(time + total * _PER_BYTE_TO_CUT, total * 2)
        return Measure(time + total * _PER_BYTE_TO_READ, max(total, 32))

    @staticmethod
    def _of_pieces(name: str, time: float, text: float, piece: float = 0.0, other: float = 0.0, *_: float) -> Measure:
        """Cut a text at each piece, or put pieces together."""
        if name == "join":
            return Measure(time + text * _PER_BYTE_TO_CUT, text * (piece + 1))
        time += text * (piece / 50 + _PER_BYTE_TO_CUT)
        return Measure(time, 8 * text) if name == "split" else Measure(time + text * other, (text + 1) * (other + 1))

    @staticmethod
    def _matching(node: Node, size: float) -> float:
        count = states(str(node.parts[1].value))
        return (
            _PER_PATTERN
            + count * _PER_STATE_OF_PATTERN
            + size * (_PER_BYTE_TO_MATCH if count <= _FEW_STATES else count * _PER_STATE_TO_MATCH)
        )

    def _of_loop(self, node: Node, scope: Mapping[str, float]) -> Measure:
        """Add up the rounds: all of the size may lie in one item, which costs most since no cost grows slower."""
        over, first, condition, step, result = node.parts
        whole, start = self.of(over, scope), self.of(first, scope)
        rounds = min(MOST_ROUNDS, self._count(over, whole))
        *items, accumulated = node.variables
        empty, full = (
            self._sum((condition, step), {**scope, accumulated: 0.0, **dict.fromkeys(items, size)})
            for size in (0.0, whole.size)
        )
        size = start.size + rounds * (empty.size + 8) + (full.size - empty.size)
        end = self.of(result, {**scope, accumulated: size})
        time = rounds * empty.time + (full.time - empty.time) + (first.kind == "list") * rounds**2 * _PER_ITEM_TO_COPY
        return Measure(whole.time + start.time + time + end.time, end.size)

    def _count(self, over: Node, whole: Measure) -> float:
        if over.kind in {"list", "struct"}:
            return len(over.parts)
        path = path_of(over)
        value = self._sizes.find(*path) if path else None
        return len(value) if isinstance(value, dict | list) else whole.size / 2 + 1

    def _sum(self, nodes: Sequence[Node], scope: Mapping[str, float]) -> Measure:
        parts = [self.of(node, scope) for node in nodes]
        return Measure(_STEP + sum(part.time for part in parts), sum(part.size for part in parts) + 8 * len(parts))
