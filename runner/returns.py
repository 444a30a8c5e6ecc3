"""What a block may return besides data: that it has nothing to do, or which blocks go on."""

from typing import Any

import msgspec


class Skip(msgspec.Struct, frozen=True):
    """`return Skip("no rows today")`: the block is `skipped`, which is no failure; the run's log has the reason."""

    reason: str = ""


class Branch:
    """`return Branch("big", value=rows)`: of the blocks directly behind this one only the named ones may start.

    The others are `skipped`. `value` is the block's output.
    """

    __slots__ = ("chosen", "value")

    def __init__(self, *chosen: str, value: Any = None) -> None:
        self.chosen = chosen
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Branch) and (self.chosen, self.value) == (other.chosen, other.value)

    __hash__ = None  # type: ignore[assignment]  # the value may be any data

    def __repr__(self) -> str:
        return f"Branch({', '.join([*map(repr, self.chosen), f'value={self.value!r}'])})"
