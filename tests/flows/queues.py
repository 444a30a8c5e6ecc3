"""Pipelines whose runs wait for each other, and whose blocks want to execute on different runners."""

import os
import time
from pathlib import Path

import msgspec

from runner import Run, pipeline


class Params(msgspec.Struct):
    seconds: float = 0.05
    diary: str = ""


one_at_a_time = pipeline("one_at_a_time", params=Params, max_active_runs=1)
two_at_a_time = pipeline("two_at_a_time", params=Params, max_active_runs=2)
unlimited = pipeline("unlimited", params=Params)
on_gpu = pipeline("on_gpu", queue="gpu")
begins_on_gpu = pipeline("begins_on_gpu")
crosses = pipeline("crosses", params=Params)
crosses_alone = pipeline("crosses_alone", params=Params, max_active_runs=1)
in_time = pipeline("in_time", params=Params, timeout=1.5)
crosses_in_time = pipeline("crosses_in_time", params=Params, timeout=2.5)


def note(run: Run[Params], word: str) -> str:
    if run.params.diary:
        with Path(run.params.diary).open("a") as diary:
            diary.write(f"{run.number} {word} {os.environ.get('WHERE', '')}\n")
    time.sleep(run.params.seconds)
    return word


for limited in (one_at_a_time, two_at_a_time, unlimited, in_time):

    @limited.block
    def works(run: Run[Params]) -> str:
        return note(run, "works")


@on_gpu.block
def computes() -> int:
    return 1


@begins_on_gpu.block(queue="gpu")
def learns() -> int:
    return 1


@begins_on_gpu.block
def tells(learns: int) -> int:
    return learns


for crossing in (crosses, crosses_alone, crosses_in_time):

    @crossing.block
    def before(run: Run[Params]) -> str:
        return note(run, "before")

    @crossing.block(queue="gpu")
    def middle(run: Run[Params], before: str) -> str:
        return note(run, "middle")

    @crossing.block
    def after(run: Run[Params], middle: str) -> str:
        return note(run, "after")
