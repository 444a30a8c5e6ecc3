"""Pipelines of every shape: skips, branches, rules, mapped blocks, callbacks, and a thousand blocks wide and deep."""

import asyncio
import time
from pathlib import Path

import msgspec

from runner import Branch, Run, Skip, pipeline


class Diary(msgspec.Struct):
    diary: str = ""
    how: str = "success"
    items: int = 3
    seconds: float = 0.0


def note(run: Run[Diary], words: str) -> None:
    if run.params.diary:
        with Path(run.params.diary).open("a") as diary:
            diary.write(f"{words}\n")


routes = pipeline("routes", params=Diary)


@routes.block
def route(run: Run[Diary]) -> Branch:
    return Branch(*run.params.how.split(), value=[1, 2, 3])


@routes.block
def big(route: list) -> int:
    return sum(route)


@routes.block(after=["route"])
def small() -> str:
    return "small"


@routes.block(trigger_rule="none_failed")
def joined(big: int | None, small: str | None) -> list:
    return [big, small]


@routes.block
def behind_both(big: int, small: str) -> None:
    raise AssertionError("one of them was skipped")


skips = pipeline("skips")


@skips.block
def nothing(run: Run) -> object:
    return Skip("no rows today")


@skips.block
def behind(nothing: list) -> None:
    raise AssertionError("it has no input")


@skips.block(trigger_rule="none_failed")
def anyway(nothing: list | None) -> list:
    return [nothing]


rules = pipeline("rules")


@rules.block
def good() -> int:
    return 1


@rules.block
def bad() -> int:
    raise RuntimeError("bad")


@rules.block(trigger_rule="one_failed", after=["bad"])
def alarm(good: int) -> int:
    return good


@rules.block(trigger_rule="one_failed", after=["good"])
def false_alarm() -> None:
    raise AssertionError("nothing failed")


@rules.block(trigger_rule="all_done")
def cleanup(good: int, bad: int | None) -> list:
    return [good, bad]


@rules.block(after=["bad"])
def gone() -> None:
    raise AssertionError("bad failed")


mapped = pipeline("mapped", params=Diary)


@mapped.block
def load(run: Run[Diary]) -> list[int]:
    return list(range(run.params.items))


@mapped.block(map="load", retries=1, retry_delay=0.01)
def square(run: Run[Diary], load: int) -> object:
    note(run, f"{load} {run.attempt}")
    run.log.info(f"item {run.map_index}", key=run.idempotency_key)
    time.sleep(run.params.seconds)
    if run.params.how == "failure" and load in (1, 2):
        raise ValueError(f"not {load}")
    return Skip() if run.params.how == "skip" and load == 1 else load * load


@mapped.block(map="square")
def minus_one(square: int | None) -> int | None:
    return None if square is None else square - 1


@mapped.block
def total(square: list, minus_one: list) -> list:
    return [*square, *minus_one]


maps_nothing = pipeline("maps_nothing")


@maps_nothing.block
def text() -> str:
    return "abc"


@maps_nothing.block(map="text")
def letter(text: str) -> str:
    return text


too_many = pipeline("too_many")


@too_many.block
def numbers() -> list[int]:
    return [0] * 10_001


@too_many.block(map="numbers")
def number(numbers: int) -> int:
    return numbers


tells = pipeline("tells", params=Diary)


@tells.block
async def works(run: Run[Diary]) -> int:
    note(run, "works")
    if run.params.how == "failure":
        raise ValueError("no such region")
    if run.params.how == "cancel":
        await asyncio.sleep(30)
    return 1


@tells.block
def ends(works: int) -> int:
    return works


@tells.callback("success", block=["works", "ends"])
@tells.callback("failure", block="works", id="works_failed")
@tells.callback("cancel", block="works", id="works_cancelled")
@tells.callback("success", id="run_succeeded")
@tells.callback("failure", id="run_failed", retries=1, retry_delay=0.01)
@tells.callback("cancel", id="run_cancelled")
async def told(run: Run[Diary]) -> None:
    error = run.error and f"{run.error.type} in {run.error.block_id}"
    note(run, f"{run.block_id}: {run.about} {run.state} {error}")
    if run.block_id == "run_failed" and run.attempt == 1:
        raise ConnectionError("nobody listens")


@tells.callback("failure")
async def slow(run: Run[Diary]) -> None:
    note(run, "slow")
    await asyncio.sleep(run.params.seconds)


heals = pipeline("heals", params=Diary)


@heals.block
def start() -> list[int]:
    return [0, 1, 2]


@heals.block(map="start")
def each(run: Run[Diary], start: int) -> int:
    note(run, f"each {start}")
    if start == 1 and not Path(run.params.how).exists():
        raise ValueError("not mended")
    return start


@heals.block(trigger_rule="all_done")
def sweep(run: Run[Diary], each: list[int] | None) -> None:
    note(run, f"sweep {each}")


@heals.callback("success", block="start")
@heals.callback("failure", id="alert")
def called(run: Run[Diary]) -> None:
    note(run, run.block_id)


deep = pipeline("deep")
wide = pipeline("wide")


def noop() -> None:
    """Do nothing."""


deep.block(id="b0")(noop)
wide.block(id="b0")(noop)
for n in range(1, 1000):
    deep.block(id=f"b{n}", after=[f"b{n - 1}"])(noop)
    wide.block(id=f"b{n}", after=["b0"])(noop)
