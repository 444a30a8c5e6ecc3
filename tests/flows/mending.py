"""A pipeline that fails until somebody mends what is broken: a file that is not there yet."""

from pathlib import Path

import msgspec

from runner import Run, pipeline


class Params(msgspec.Struct):
    diary: str
    mended: str
    rows: int = 2


mending = pipeline("mending", params=Params)


def note(run: Run[Params], block: str) -> None:
    with Path(run.params.diary).open("a") as diary:
        diary.write(f"{block} {run.attempt}\n")


@mending.block
def prepare(run: Run[Params]) -> list[dict[str, int]]:
    note(run, "prepare")
    return [{"id": number} for number in range(run.params.rows)]


@mending.block
def shaky(run: Run[Params], prepare: list[dict[str, int]]) -> int:
    note(run, "shaky")
    if not Path(run.params.mended).exists():
        raise FileNotFoundError("not mended yet")
    return len(prepare)


@mending.block
def finish(run: Run[Params], shaky: int) -> int:
    note(run, "finish")
    run.log.info("done", rows=shaky, ref=(run.event_variables or {}).get("ref"))
    return shaky


mending_items = pipeline("mending_items", params=Params)


@mending_items.block
def items(run: Run[Params]) -> list[int]:
    note(run, "items")
    return list(range(run.params.rows))


@mending_items.block(map="items")
def each(run: Run[Params], items: int) -> int:
    note(run, f"each[{items}]")
    if items == 1 and not Path(run.params.mended).exists():
        raise FileNotFoundError("not mended yet")
    return items * 10


@mending_items.block(trigger_rule="all_done")
def report(run: Run[Params], each: list[int] | None) -> list[int] | None:
    note(run, f"report {each}")
    return each


@mending_items.callback("success", block="items", id="items_told")
@mending_items.callback("failure", id="run_failed")
@mending_items.callback("success", id="run_succeeded")
def told(run: Run[Params]) -> None:
    note(run, run.block_id)
