"""How a schedule's rules are typed and shown: its filter, mapping and dedupe key, and whether it splits deliveries."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rich_click as click

from gateway.cli.output import Lines
from schemas.schedules import Schedule

_EXAMPLE = "branch=\"body.ref.split('/')[2]\""


def rule_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a schedule's rules."""
    option = functools.partial(click.option, panel="What becomes of a delivery (CEL expressions)")
    for decorate in (
        option("--split/--no-split", default=None, help="Make one run of each item that a delivery carries."),
        option("--dedupe", metavar="CEL", help="A text: deliveries with the same one are one."),
        option("--map", "mapped", multiple=True, metavar="NAME=CEL", help=f"A variable of the run: --map {_EXAMPLE}"),
        option("--filter", metavar="CEL", help="Only deliveries for which it is true become runs."),
    ):
        function = decorate(function)
    return function


def read_rules(
    mapped: Sequence[str], *, old: Mapping[str, str] | None = None, **given: str | bool | None
) -> dict[str, Any]:
    """Turn the options into fields of a request; an empty expression takes the old one away."""
    fields: dict[str, Any] = {name: value or None for name, value in given.items() if isinstance(value, str)}
    fields |= {name: value for name, value in given.items() if isinstance(value, bool)}
    if mapped:
        mapping = dict(old or {})
        for text in mapped:
            name, sign, expression = text.partition("=")
            if not (name.strip() and sign):
                raise click.BadParameter(f"{text!r} is not NAME=CEL. Example: --map {_EXAMPLE}", param_hint="--map")
            mapping[name.strip()] = expression
        fields["mapping"] = {name: expression for name, expression in mapping.items() if expression}
    return fields


def describe_rules(schedule: Schedule) -> list[Lines]:
    """Show the expressions, each under its name."""
    expressions = {
        "filter": schedule.filter,
        **{f"mapping of {name}": expression for name, expression in schedule.mapping.items()},
        "dedupe": schedule.dedupe,
        "split": "into its items" if schedule.split else None,
    }
    return [Lines(name, tuple(text.splitlines())) for name, text in expressions.items() if text]
