"""Expressions that users write over a delivery: its filter, its mapping and its dedupe key.

The language is CEL, the Common Expression Language, in its official runtime, with the extensions for strings, optional
values, base64 and mathematics. An expression is checked when it is saved and evaluated on the event loop; so it is
bounded in every way (`costs.py`).
"""

from gateway.expressions.language import BadExpression, Expression, Step, Wanted, compile_expression, fields_read
from gateway.expressions.subject import Budget, ExpressionFailed, Subject

__all__ = [
    "BadExpression",
    "Budget",
    "Expression",
    "ExpressionFailed",
    "Step",
    "Subject",
    "Wanted",
    "compile_expression",
    "fields_read",
]
