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
