"""Write a pipeline: a file of plain functions that Penstock runs as blocks.

    import msgspec
    from runner import Run, pipeline

    class Params(msgspec.Struct):
        region: str = "us-east-1"

    orders = pipeline("orders", params=Params)

    @orders.block(retries=3, timeout=60)
    async def load(run: Run[Params]) -> list[dict]:
        run.log.info("loading", region=run.params.region)
        return [{"id": 1}]

    @orders.block
    def count(load: list[dict]) -> int:  # a parameter named like a block receives its output
        return len(load)

    @orders.callback("failure")
    def tell(run: Run[Params]) -> None:
        run.log.error("the run failed", error=str(run.error))

A block waits for others without their output by `after=["count"]`, goes on after failures by `trigger_rule="all_done"`,
is executed once for each item of a list by `map="load"`, and may return `Skip("why")` or `Branch("count")` instead of
data. The functions stay as they are, so a unit test calls `count([{"id": 1}])` or `await load(Run(params=Params()))`.
Blocks run in warm child processes that serve many runs: what a module opens once (a client, a model) is kept for the
next call, and so is what a block changes in its process (`os.chdir`, `os.environ`).
"""

from runner.context import Cancelled, Log, Run
from runner.graph import Pipeline, pipeline
from runner.remote import Remote
from runner.returns import Branch, Skip

__all__ = ["Branch", "Cancelled", "Log", "Pipeline", "Remote", "Run", "Skip", "pipeline"]
