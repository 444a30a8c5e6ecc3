"""Five blocks in a row, each of which notes that it was executed and takes its time."""

import asyncio
from pathlib import Path

import msgspec

from runner import Run, pipeline


class Params(msgspec.Struct):
    seconds: float = 0.05
    diary: str = ""


steps = pipeline("steps", params=Params)


async def step(run: Run[Params], number: int) -> int:
    if run.params.diary:
        with Path(run.params.diary).open("a") as diary:
            diary.write(f"{run.id} {number} {run.attempt}\n")
    run.log.info(f"step {number}", number=number)
    await asyncio.sleep(run.params.seconds)
    return number


@steps.block
async def one(run: Run[Params]) -> int:
    return await step(run, 1)


@steps.block
async def two(run: Run[Params], one: int) -> int:
    return await step(run, one + 1)


@steps.block
async def three(run: Run[Params], two: int) -> int:
    return await step(run, two + 1)


@steps.block
async def four(run: Run[Params], three: int) -> int:
    return await step(run, three + 1)


@steps.block
async def five(run: Run[Params], four: int) -> int:
    return await step(run, four + 1)
