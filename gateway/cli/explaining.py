"""How the steps of an explanation are shown: what the gateway checked, and what each check found."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.cli.output import Column, Listing, Part

_COLUMNS = (Column("step", "state"), Column("finding"))
_PART_COLUMNS = (Column("rule", "state"), Column("expression"), Column("value"))


class ExpressionPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an expression and its value for one delivery, or the error why it has none."""

    text: str
    value: Any = None
    error: str | None = None
    is_cut: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One check."""

    step: str
    finding: str


def describe_steps(steps: Sequence[Step]) -> list[Part]:
    """Lay out the steps."""
    return [Listing(_COLUMNS, [[step.step, step.finding] for step in steps], "step")]
