"""The table `pipelines`: what runners publish and everybody else reads."""

import re
from collections.abc import Sequence

import msgspec

from schemas.errors import NotFound
from schemas.pages import MOST_COUNTED, Counted, Span
from schemas.pipelines import Definition, Graph, Pipeline, PipelineFilter
from schemas.store.db import Database, Db, queries

SQL = queries("pipelines")
_ALL = PipelineFilter()
_UNFILTERED = (None, None, None, False)
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_.-]")


async def publish(db: Database, definitions: Sequence[Definition]) -> None:
    """Put the definitions of one file in force, in one transaction; a broken file never replaces a good version."""
    async with db.transaction() as transaction:
        for definition in definitions:
            if definition.graph is None:
                await _publish_error(transaction, definition)
            else:
                await _publish_good(transaction, definition, definition.graph)
        for path in {definition.path for definition in definitions}:
            broken = [_fit_id(d.id) for d in definitions if d.path == path and d.graph is None]
            await transaction.execute(SQL["forget_broken"], path, broken)


async def file_is_gone(db: Database, path: str) -> None:
    """Say on each pipeline of a deleted file that it is gone; what has only ever been an error is forgotten."""
    async with db.transaction() as transaction:
        await transaction.fetch(SQL["mark_file_broken"], path, f"The file {path} is gone.")
        await transaction.execute(SQL["forget_broken"], path, [])


async def _publish_good(db: Db, definition: Definition, graph: Graph) -> None:
    schema = definition.params_schema
    await db.execute(
        SQL["publish"],
        definition.id,
        definition.version,
        definition.path,
        definition.doc,
        graph,
        schema,
        definition.max_active_runs,
        definition.first_queue,
        definition.run_timeout_s,
    )
    await db.execute(SQL["publish_version"], definition.id, definition.version, graph, schema)


async def _publish_error(db: Db, definition: Definition) -> None:
    await db.fetch(SQL["mark_file_broken"], definition.path, definition.error)
    if not await db.fetchval(SQL["has_good_version"], definition.path):
        await db.execute(SQL["publish_broken"], _fit_id(definition.id), definition.path, definition.error)


def _fit_id(stem: str) -> str:
    """A file may be called what a pipeline may not."""
    return _NOT_IN_AN_ID.sub("_", stem).lstrip(".-")[:200] or "_"


async def get(db: Db, pipeline_id: str) -> Pipeline:
    """Read one pipeline; raises NotFound."""
    return await first_of(db, [pipeline_id])


async def first_of(db: Db, pipeline_ids: Sequence[str]) -> Pipeline:
    """Read the first of these pipelines that exists; raises NotFound."""
    row = await db.fetchrow(SQL["first_of"], pipeline_ids)
    if row is None:
        raise NotFound(f"There is no pipeline {pipeline_ids[0]!r}.")
    return msgspec.convert(row, Pipeline)


async def lock(db: Db, pipeline_id: str) -> Pipeline:
    """Read a pipeline that this transaction is about to change; raises NotFound."""
    await db.execute(SQL["lock"], pipeline_id)
    return await get(db, pipeline_id)


async def list_page(db: Db, after: str | None, *, q: str | None, limit: int) -> list[Pipeline]:
    """Read pipelines by id, after the cursor `after`."""
    return [msgspec.convert(row, Pipeline) for row in await db.fetch(SQL["page"], after, q, 0, limit, *_UNFILTERED)]


async def list_span(
    db: Db, span: Span, *, q: str | None, which: PipelineFilter = _ALL, backwards: bool = False
) -> Counted[Pipeline]:
    """Read a part of the pipelines by id, and how many there are."""
    filters = which.pattern, which.is_paused, which.is_broken
    rows = await db.fetch(SQL["page"], None, q, span.offset, span.limit, *filters, backwards)
    total = await db.fetchval(SQL["count"], q, MOST_COUNTED, *filters)
    return Counted([msgspec.convert(row, Pipeline) for row in rows], total)


async def update(db: Db, pipeline: Pipeline) -> Pipeline:
    """Write what a user may change of a pipeline; raises NotFound when it is gone."""
    settings = pipeline.is_paused, pipeline.on_paused, pipeline.max_active_runs, pipeline.notify
    row = await db.fetchrow(SQL["update"], pipeline.id, *settings, pipeline.name, pipeline.description)
    if row is None:
        raise NotFound(f"There is no pipeline {pipeline.id!r}.")
    return msgspec.convert(row, Pipeline)


async def graph_of(db: Db, pipeline_id: str, version: str | None) -> Graph | None:
    """Read the graph of a version, or of the newest one for a run that nobody has taken yet."""
    graph = await db.fetchval(SQL["graph_of_version"], pipeline_id, version)
    return None if graph is None else msgspec.convert(graph, Graph)
