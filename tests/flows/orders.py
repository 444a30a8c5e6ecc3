"""The pipelines that the founding documents speak of: two nodes of a table, and parameters with a schema."""

from pathlib import Path
from typing import Literal

import msgspec

from runner import Run, pipeline


class Orders(msgspec.Struct):
    date: str = "2024-01-01"
    mended: str = ""  # a file that a failing transform waits for


class Parameters(msgspec.Struct):
    target_date: str = "2024-01-01"
    region: Literal["us-east-1", "eu-west-1"] = "us-east-1"
    dry_run: bool = True


customer_orders = pipeline("customer_orders_daily", params=Orders)
parameterised = pipeline("parameterised_pipeline", params=Parameters)


@customer_orders.block(writes=["users"])
def source1(run: Run[Orders]) -> list[dict[str, object]]:
    """Fetch Users."""
    run.log.info("fetching", date=run.params.date)
    return [{"id": n, "name": f"User {n}", "email": f"user{n}@example.com"} for n in range(60)]


@customer_orders.block(reads=["users"])
def transform1(run: Run[Orders], source1: list[dict[str, object]]) -> list[dict[str, object]]:
    if run.params.mended and not Path(run.params.mended).exists():
        raise RuntimeError("the database is away")
    return source1[:48]


@parameterised.block
def process(run: Run[Parameters]) -> str:
    return f"{run.params.region} {run.params.target_date} {run.params.dry_run}"
