"""How the steps of an explanation are shown."""

from collections.abc import Sequence

import msgspec

from gateway.cli.output import Column, Listing, Part


class Step(msgspec.Struct, frozen=True):
    step: str
    finding: str


def describe_steps(steps: Sequence[Step]) -> list[Part]:
    return [Listing((Column("step"), Column("finding")), [[s.step, s.finding] for s in steps], "step")]
