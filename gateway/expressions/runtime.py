"""The one module that knows the CEL runtime's package; it costs 9 MB, so it is loaded when the first expression is."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cel_expr_python import cel

FIELDS_OF_EVENT = ("id", "type", "source", "received_at")
_NO_VALUE = {"ERROR", "UNKNOWN"}
_PLAIN = {"BOOL", "INT", "UINT", "DOUBLE", "STRING", "BYTES", "TIMESTAMP", "DURATION"}
_BROKEN = (RuntimeError, SystemError, TypeError, ValueError, OverflowError)  # what the bindings turn failures into


class RuntimeFailed(Exception):
    """The runtime refuses an expression or cannot evaluate it; the text is its own."""


class Program:
    """An expression as the runtime has compiled it."""

    def __init__(self, compiled: "cel.Expression") -> None:
        self._compiled = compiled
        self.type: str = compiled.return_type().name()

    def serialize(self) -> bytes:
        """Give the checked expression as bytes of `cel.expr.CheckedExpr`."""
        serialized: bytes = self._compiled.serialize()
        return serialized

    def run(self, values: "Values") -> Any:
        """Evaluate to a Python value; raises RuntimeFailed."""
        try:
            return _read(self._compiled.eval(values.activation))
        except _BROKEN as error:
            raise RuntimeFailed(str(error)) from None

    def has_value(self, values: "Values") -> bool:
        """Say whether it can be evaluated, without reading the value back."""
        try:
            return self._compiled.eval(values.activation).type().name() not in _NO_VALUE
        except _BROKEN:
            return False


class Values:
    """What the names in an expression stand for; each is converted once, when it is first asked for."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.activation = _environment().Activation(data)

    @property
    def hold_the_body(self) -> bool:
        """Say whether the runtime could take the body as it is."""
        return _body().has_value(self)


def _read(value: "cel.Value") -> Any:
    """Read a value back, part by part, for `Value.plain_value()` of version 0.1.3 cannot be called on everything.

    It gives None away without counting the reference, which ends a process of Python 3.11 sooner or later, and crashes
    on an object that holds an empty optional.
    """
    kind = value.type().name()
    if kind in _PLAIN:
        return value.value()
    if kind == "NULL":
        return None
    if kind.startswith("LIST"):
        return [_read(item) for item in value.value()]
    if kind.startswith("MAP"):
        return {key: _read(item) for key, item in value.value().items()}
    if kind in _NO_VALUE:
        raise RuntimeFailed(str(value.value()))
    raise RuntimeFailed(f"it gives a value of type {kind}, which JSON does not have")


def compile_text(text: str) -> Program:
    """Parse and check a text; raises RuntimeFailed."""
    try:
        return Program(_environment().compile(text))
    except _BROKEN as error:
        raise RuntimeFailed(str(error)) from None


@cache
def _body() -> Program:
    return compile_text("body")


@cache
def _environment() -> "cel.Env":
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_encoders, ext_math, ext_optional, ext_strings

    texts = cel.Type.Map(cel.Type.STRING, cel.Type.STRING)
    event = dict.fromkeys((f"event.{field}" for field in FIELDS_OF_EVENT), cel.Type.STRING)
    event["event.received_at"] = cel.Type.TIMESTAMP
    extensions = [ext_strings.ExtStrings(), ext_optional.ExtOptional(), ext_encoders.ExtEncoders(), ext_math.ExtMath()]
    return cel.NewEnv(
        variables={"body": cel.Type.DYN, "headers": texts, "query": texts, **event}, extensions=extensions
    )
