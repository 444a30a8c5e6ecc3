"""Orders of one region."""

import msgspec

from runner import Run, pipeline


class Params(msgspec.Struct):
    region: str = "us-east-1"
    limit: int = 2


orders = pipeline("orders", params=Params, max_active_runs=4)


@orders.block
def noop() -> None:
    """Do nothing."""


@orders.block(retries=3, timeout=60)
async def load(run: Run[Params]) -> list[dict]:
    run.log.info("loading", region=run.params.region, ref=(run.event_variables or {}).get("ref"))
    return [{"id": number} for number in range(run.params.limit)]


@orders.block
def transform(load: list[dict]) -> list[dict]:
    return [row | {"ok": True} for row in load]


@orders.block
def about(context: Run[Params]) -> dict:
    return {
        "id": context.id,
        "number": context.number,
        "pipeline": context.pipeline_id,
        "block": context.block_id,
        "attempt": context.attempt,
        "key": context.idempotency_key,
        "variables": context.variables,
        "event": context.event_variables,
        "logical_date": context.logical_date,
    }
