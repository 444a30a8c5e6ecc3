"""What a measurement says: figures, each with the goal it has to meet."""

import math
import statistics
from collections.abc import Sequence

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """A bound; a floor must be reached, any other must not be passed."""

    bound: float
    is_floor: bool

    def __str__(self) -> str:
        return f"{'>=' if self.is_floor else '<='} {self.bound:g}"

    def is_met_by(self, value: float) -> bool:
        """Say whether a value is on the right side."""
        return value >= self.bound if self.is_floor else value <= self.bound


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a value with its unit and, where there is something to compare with, a ratio to that."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    ratio_to: str | None = None
    goal: str | None = None
    is_met: bool | None = None


def at_least(bound: float) -> Goal:
    """Make a goal that has to be reached."""
    return Goal(bound, is_floor=True)


def at_most(bound: float) -> Goal:
    """Make a goal that must not be passed."""
    return Goal(bound, is_floor=False)


def figure(
    name: str,
    value: float,
    *,
    unit: str,
    ratio: float | None = None,
    ratio_to: str | None = None,
    goal: Goal | None = None,
) -> Figure:
    """Make a row; the goal is for the ratio when there is one."""
    judged = value if ratio is None else ratio
    return Figure(
        name=name,
        value=_round(value),
        unit=unit,
        ratio=None if ratio is None else _round(ratio),
        ratio_to=ratio_to,
        goal=None if goal is None else str(goal),
        is_met=None if goal is None else goal.is_met_by(judged),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all values does not pass; 0 when there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def median_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """Compare two series that were measured in turns, pair by pair."""
    return statistics.median(value / reference for value, reference in zip(values, references, strict=True))


def latencies(name: str, seconds: Sequence[float], *, p50: Goal | None = None, p99: Goal | None = None) -> list[Figure]:
    """Make the two rows of a series of waiting times; the goals are in milliseconds."""
    return [
        figure(f"{name}, p50", quantile(seconds, 0.50) * 1000, unit="ms", goal=p50),
        figure(f"{name}, p99", quantile(seconds, 0.99) * 1000, unit="ms", goal=p99),
    ]


def _round(value: float) -> float:
    """Keep three digits: more would be noise."""
    return float(f"{value:.3g}") if abs(value) < 100 else float(round(value))
