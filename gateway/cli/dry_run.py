"""`penstock pipelines dry-run`: a pipeline on its first rows."""

from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import RunFailed, path, read
from gateway.cli.options import JsonObject, Session, connected
from gateway.cli.output import Column, Lines, Listing, Part, duration
from gateway.cli.outputs import describe_preview
from schemas.dry_runs import DryBlock, DryResult
from schemas.previews import Preview
from schemas.states import RunState

LONGEST_WAIT_S = 75.0
_COLUMNS = (Column("block"), Column("state", "state"), Column("duration", "number"), Column("rows", "number"))


@click.command("dry-run")
@click.argument("pipeline_id", metavar="ID")
@click.option("-d", "--data", type=JsonObject(), metavar="JSON|@FILE|-", help="The variables as a JSON object.")
@click.option("--event", type=JsonObject(), metavar="JSON|@FILE|-", help="The event_variables as a JSON object.")
@click.option("--rows", type=click.IntRange(1, 50), default=10, show_default=True, help="How many of each table.")
@connected
def dry_run(
    session: Session,
    *,
    pipeline_id: str,
    data: dict[str, msgspec.Raw] | None,
    event: dict[str, msgspec.Raw] | None,
    rows: int,
) -> None:
    """Execute a pipeline on its first rows and show what each block returns; no run is kept, exit 7 if it fails.

    \b
    Examples:
    penstock pipelines dry-run customer_orders_daily
    penstock pipelines dry-run customer_orders_daily -d '{"region": "eu"}' --rows 3
    """
    body: dict[str, Any] = {"variables": data or {}, "rows": rows}
    if event is not None:
        body["event_variables"] = event
    where = path("pipelines", pipeline_id, "dry-run")
    raw = session.client.patient(LONGEST_WAIT_S).fetch("POST", where, body=body)
    result = read(raw, DryResult)
    session.output.record(raw, lambda: _describe(result))
    if result.state is not RunState.SUCCESS:
        raise RunFailed(f"The dry run of {pipeline_id} is {result.state}.")


def _describe(result: DryResult) -> list[Part]:
    parts: list[Part] = [Listing(_COLUMNS, map(_row, result.blocks.values()), "block")]
    for block in result.blocks.values():
        if block.error is not None:
            lines = (block.error.traceback or "").rstrip().splitlines()
            parts.append(Lines("error", (f"{block.error.type} in {block.block_id}: {block.error.message}", *lines)))
        elif block.columns is not None or block.value is not msgspec.UNSET:
            shown = Preview(columns=block.columns, rows=block.rows, value=block.value)
            parts += [Lines("block", (block.block_id,)), *describe_preview(shown)]
    return parts


def _row(block: DryBlock) -> list[str]:
    rows = "" if block.row_count is None else str(block.row_count)
    return [block.block_id, block.state, duration(block.duration_ms), rows]
