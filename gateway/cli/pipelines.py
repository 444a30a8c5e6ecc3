"""`penstock pipelines`: what the runner has found in the pipelines directory, broken files included."""

from collections.abc import Iterator
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.dry_run import dry_run
from gateway.cli.options import JsonObject, Session, connected
from gateway.cli.output import Column, Fields, Lines, Output, Part, duration, json_text
from schemas.pipelines import Block, Callback, Executable, Graph, Pipeline
from schemas.states import OnPaused, TriggerRule

_COLUMNS = (
    Column("id"),
    Column("state", "state"),
    Column("version"),
    Column("blocks", "number"),
    Column("updated"),
    Column("error"),
)


@click.group()
def pipelines() -> None:
    """See the pipelines, pause and unpause them, and set what they may."""


pipelines.add_command(dry_run)


@pipelines.command()
@connected
def ls(session: Session) -> None:
    """List the pipelines: active, paused, or broken with the error of their file."""
    output = session.output

    def row(item: msgspec.Raw) -> list[str]:
        return _row(read(item, Pipeline), output)

    if not output.listing(session.client.pages(path("pipelines"), query={}, limit=None), _COLUMNS, row):
        output.note("No pipelines. Is a runner up, and has its pipelines directory a file? `penstock up` starts one.")


@pipelines.command()
@click.argument("pipeline_id", metavar="ID")
@connected
def show(session: Session, *, pipeline_id: str) -> None:
    """Show one pipeline: description, params, and its blocks below those that they wait for."""
    raw = session.client.fetch("GET", path("pipelines", pipeline_id))
    session.output.record(raw, lambda: _describe(read(raw, Pipeline), session.output))


@pipelines.command()
@click.argument("pipeline_id", metavar="ID")
@connected
def pause(session: Session, *, pipeline_id: str) -> None:
    """Start no more runs of a pipeline; runs that were asked for wait."""
    _patch(session, pipeline_id, {"is_paused": True})


@pipelines.command()
@click.argument("pipeline_id", metavar="ID")
@connected
def unpause(session: Session, *, pipeline_id: str) -> None:
    """Let a pipeline run again, first the runs that waited."""
    _patch(session, pipeline_id, {"is_paused": False})


@pipelines.command("set")
@click.argument("pipeline_id", metavar="ID")
@click.option("--on-paused", type=click.Choice([word.value for word in OnPaused]), help="What a call does meanwhile.")
@click.option("--max-active-runs", type=click.IntRange(min=1), metavar="N", help="How many may execute at once.")
@click.option("--no-limit", is_flag=True, help="Any number may execute at once.")
@click.option("--notify", type=JsonObject(), metavar="JSON|@FILE|-", help="Whom to tell what became of runs.")
@connected
def change(
    session: Session,
    *,
    pipeline_id: str,
    on_paused: str | None,
    max_active_runs: int | None,
    no_limit: bool,
    notify: dict[str, msgspec.Raw] | None,
) -> None:
    """Change what can be set beside a pipeline's file; what is not named stays.

    \b
    Examples:
    penstock pipelines set hello --on-paused reject
    penstock pipelines set hello --max-active-runs 4
    """
    if no_limit and max_active_runs is not None:
        raise click.UsageError("--no-limit and --max-active-runs contradict each other.")
    given = {"on_paused": on_paused, "max_active_runs": max_active_runs, "notify": notify}
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if no_limit:
        body["max_active_runs"] = None
    if not body:
        raise click.UsageError("Name at least one setting; --help lists them.")
    _patch(session, pipeline_id, body)


def _patch(session: Session, pipeline_id: str, body: dict[str, Any]) -> None:
    raw = session.client.fetch("PATCH", path("pipelines", pipeline_id), body=body)
    session.output.record(raw, lambda: _describe(read(raw, Pipeline), session.output)[:1])


def _row(pipeline: Pipeline, output: Output) -> list[str]:
    blocks = str(len(pipeline.graph.blocks)) if pipeline.graph else ""
    error = (pipeline.error or "").strip().rpartition("\n")[2]
    version = (pipeline.version or "")[:12]
    return [pipeline.id, _state(pipeline), version, blocks, output.moment(pipeline.updated_at), error]


def _state(pipeline: Pipeline) -> str:
    if pipeline.error:
        return "broken"
    return "paused" if pipeline.is_paused else "active"


def _describe(pipeline: Pipeline, output: Output) -> list[Part]:
    limit = pipeline.max_active_runs
    parts: list[Part] = [
        Fields(
            (
                ("pipeline", pipeline.id),
                ("state", _state(pipeline)),
                ("version", pipeline.version or ""),
                ("file", pipeline.file),
                ("on paused", pipeline.on_paused),
                ("max active runs", "" if limit is None else str(limit)),
                ("updated", output.moment(pipeline.updated_at)),
            )
        )
    ]
    if pipeline.error:
        parts.append(Lines("error", tuple(pipeline.error.strip().splitlines())))
    if pipeline.doc:
        parts.append(Lines("description", tuple(pipeline.doc.strip().splitlines())))
    if pipeline.params_schema:
        schema = json_text(msgspec.json.encode(pipeline.params_schema), indent=2)
        parts.append(Lines("params", tuple(schema.splitlines())))
    if pipeline.graph:
        parts.append(Lines("blocks", tuple(_tree(pipeline.graph))))
        if pipeline.graph.callbacks:
            parts.append(Lines("callbacks", tuple(map(_callback_line, pipeline.graph.callbacks))))
    return parts


def _tree(graph: Graph) -> Iterator[str]:
    """Draw each block once, below the last of those that it waits for; the others are named beside it."""
    order = {block.id: position for position, block in enumerate(graph.blocks)}
    children: dict[str | None, list[Block]] = {}
    for block in graph.blocks:
        children.setdefault(max(block.upstream, key=lambda name: order.get(name, -1), default=None), []).append(block)

    waiting = [(block, "", "") for block in reversed(children.get(None, []))]
    while waiting:
        block, branch, indent = waiting.pop()
        yield branch + _block_line(block)
        below = children.get(block.id, [])
        for child in reversed(below):
            is_last = child is below[-1]
            waiting.append((child, indent + ("└─ " if is_last else "├─ "), indent + ("   " if is_last else "│  ")))


def _block_line(block: Block) -> str:
    notes = []
    if len(block.upstream) > 1:
        notes.append(f"after {', '.join(block.upstream)}")
    if block.trigger_rule is not TriggerRule.ALL_SUCCESS:
        notes.append(block.trigger_rule.replace("_", " "))
    if block.map is not None:
        notes.append(f"for each item of {block.map}")
    if block.queue is not None:
        notes.append(f"queue {block.queue}")
    return _line(block, notes)


def _callback_line(callback: Callback) -> str:
    return _line(callback, [f"{callback.on} of {callback.block or 'the run'}"])


def _line(block: Executable, notes: list[str]) -> str:
    if block.retries:
        notes.append(f"{block.retries} {'retry' if block.retries == 1 else 'retries'}")
    if block.timeout is not None:
        notes.append(f"timeout {duration(block.timeout * 1000)}")
    summary = block.doc.strip().partition("\n")[0]
    return block.id + (f" ({'; '.join(notes)})" if notes else "") + (f": {summary}" if summary else "")
