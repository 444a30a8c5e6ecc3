"""How explanations are shown: what the gateway checked, what each check found, and what each expression was made of."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.cli.output import Column, Fields, Listing, Part

_COLUMNS = (Column("step", "state"), Column("finding"), Column("value"))


class ExpressionPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an expression and its value for one delivery, or the error why it has none."""

    text: str
    value: Any = None
    error: str | None = None
    is_cut: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One check; `parts` are those of an expression, itself the first."""

    step: str
    finding: str
    parts: tuple[ExpressionPart, ...] = ()


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """What the same delivery would become by the rules of today."""

    verdict: str | None
    reason: str | None
    steps: list[Step]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why an event did or did not run; `today` only where the rules are other ones now."""

    steps: list[Step]
    today: Today | None = None


def describe_explanation(told: Explanation) -> list[Part]:
    """Lay out an explanation, and below it what would be different today."""
    parts = describe_steps(told.steps)
    if told.today is None:
        return parts
    verdict = told.today.verdict or "not known"
    reason = f": {told.today.reason}" if told.today.reason else ""
    return [*parts, Fields((("by today's rules", f"{verdict}{reason}"),)), *describe_steps(told.today.steps)]


def describe_steps(steps: Sequence[Step]) -> list[Part]:
    """Lay out steps, below each expression its parts with their values."""
    return [Listing(_COLUMNS, list(_rows(steps)), "step")] if steps else []


def _rows(steps: Sequence[Step]) -> Iterator[list[str]]:
    for step in steps:
        yield [step.step, step.finding, ""]
        for part in step.parts:
            yield ["", f"  {part.text}", _value(part)]


def _value(part: ExpressionPart) -> str:
    if part.error is not None:
        return f"error: {part.error}"
    return f"{part.value}..." if part.is_cut else msgspec.json.encode(part.value).decode()
