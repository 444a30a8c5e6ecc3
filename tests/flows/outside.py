"""Pipelines that have their work done elsewhere, and such whose end is told."""

import asyncio
from typing import Any

import msgspec

from runner import Remote, Run, pipeline


class Params(msgspec.Struct):
    url: str = ""
    timeout: float = 30.0
    pipeline: str = "quick"
    key: str = ""


elsewhere = pipeline("elsewhere", params=Params)


@elsewhere.block(retries=1, retry_delay=0.05)
def ask(run: Run[Params]) -> Remote:
    return Remote(run.params.url, json={"what": "a report"}, headers={"x-own": "yes"}, timeout=run.params.timeout)


@elsewhere.block
def use(ask: Any) -> Any:
    return ask


other_penstock = pipeline("other_penstock", params=Params)


@other_penstock.block
def trigger(run: Run[Params]) -> Remote:
    return Remote.penstock(run.params.url, run.params.pipeline, variables={}, key=run.params.key)


@other_penstock.block
def state(trigger: Any) -> str:
    return str(trigger["data"]["state"])


other_airflow = pipeline("other_airflow", params=Params)


@other_airflow.block
def dag(run: Run[Params]) -> Remote:
    return Remote.airflow(run.params.url, "daily load", conf={"day": "2026-03-01"}, token="jwt")


each_elsewhere = pipeline("each_elsewhere", params=Params)


@each_elsewhere.block
def things() -> list[str]:
    return ["a", "b", "c"]


@each_elsewhere.block(map="things")
def ask_each(run: Run[Params], things: str) -> Remote:
    return Remote(run.params.url, json={"thing": things})


impatient = pipeline("impatient", params=Params)


@impatient.block(timeout=0.5)
def wait(run: Run[Params]) -> Remote:
    return Remote(run.params.url)


lingering = pipeline("lingering")


@lingering.block
async def linger() -> None:
    await asyncio.sleep(60)


breaks = pipeline("breaks")


@breaks.block
def broken() -> None:
    raise ValueError("no <rows> & nothing")
