"""`penstock bench`: how fast this machine is with Penstock, as ratios to simpler things that run in turns with it."""

import asyncio
import importlib
import os

import msgspec
import rich_click as click
from click.exceptions import Exit

from gateway.bench import MEASUREMENTS
from gateway.bench.figures import Figure
from gateway.bench.plan import Plan
from gateway.cli.output import Column, Format, Listing, Output
from gateway.cli.up import say, until_stopped
from schemas.errors import PenstockError

ALL = "all"
_COLUMNS = (
    Column("figure"),
    Column("value", "number"),
    Column("unit"),
    Column("ratio", "number"),
    Column("to"),
    Column("goal"),
    Column("met"),
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `penstock bench --json`; the load averages tell whether the machine had other things to do."""

    cores: int
    seconds: float
    load_before: float
    load_after: float
    figures: list[Figure]


@click.command()
@click.argument("what", type=click.Choice([*MEASUREMENTS, ALL]), default=ALL)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 60),
    default=Plan().seconds,
    show_default=True,
    help="Length of one window; a measurement has several.",
)
@click.option(
    "--stored-runs",
    type=click.IntRange(1000, 100_000_000),
    default=Plan().stored_runs,
    show_default=True,
    help="Length of the history of `stored`.",
)
@click.option(
    "--stored-events",
    type=click.IntRange(1000, 100_000_000),
    default=Plan().stored_events,
    show_default=True,
    help="Its events; the goal is met with 10000000, which take several GB.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of a table.")
def bench(what: str, *, seconds: float, stored_runs: int, stored_events: int, as_json: bool) -> None:
    """Measure Penstock on this machine.

    Everything it needs is started in a temporary directory and on free ports, and is gone at the end. Compare ratios:
    plain figures depend on the machine and on what else it does. All of it takes about ten minutes.
    """
    names = MEASUREMENTS if what == ALL else (what,)
    load_before = os.getloadavg()[0]
    figures: list[Figure] = []
    plan = Plan(seconds=seconds, stored_runs=stored_runs, stored_events=stored_events)
    asyncio.run(until_stopped(_measure(names, plan, figures)))
    if not figures:
        raise Exit(130)
    report = Report(
        cores=os.cpu_count() or 1,
        seconds=seconds,
        load_before=load_before,
        load_after=os.getloadavg()[0],
        figures=figures,
    )
    printer = Output(Format.JSON if as_json else None)
    printer.record(msgspec.json.encode(report), lambda: [Listing(_COLUMNS, map(_row, figures))])


async def _measure(names: tuple[str, ...], plan: Plan, figures: list[Figure]) -> None:
    for name in names:
        module = importlib.import_module(f"gateway.bench.{name}")  # what one of them needs, the others do not load
        try:
            async with asyncio.timeout(plan.limit_s):
                figures += await module.measure(plan, say)
        except TimeoutError as error:
            raise PenstockError(f"{name} was not measured within {plan.limit_s:.0f} s") from error


def _row(one: Figure) -> tuple[str, ...]:
    ratio = "" if one.ratio is None else f"{one.ratio:g}"
    met = {None: "", True: "yes", False: "no"}[one.is_met]
    return one.name, f"{one.value:g}", one.unit, ratio, one.ratio_to or "", one.goal or "", met
