"""`.../dagRuns/{run_id}/taskInstances`: the blocks of a run, their tries and their logs."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from litestar import Response, get
from litestar.params import FromPath
from litestar.response import Stream

from gateway.airflow import log_pages
from gateway.airflow.pipelines import blocks_of
from gateway.airflow.runs import disallowed_order
from gateway.airflow.standings import sorted_by, tries
from gateway.airflow.words import UNMAPPED
from gateway.core import Core
from gateway.dialects.airflow_v2 import errors, queries, wire
from gateway.dialects.airflow_v2.catalog import find_dag
from gateway.dialects.airflow_v2.keys import may
from gateway.dialects.airflow_v2.runs import ALL, find_run
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCore
from gateway.parameters import Parameters
from schemas.runs import LogLine, NamedRun
from schemas.states import Role

_TASKS = "/api/v2/dags/{dag_id:str}/dagRuns/{run_id:str}/taskInstances"
_ORDERS = frozenset(
    {
        "id",
        "task_id",
        "task_display_name",
        "state",
        "map_index",
        "try_number",
        "duration",
        "start_date",
        "end_date",
        "queued_when",
        "logical_date",
        "run_after",
    }
)
_OPEN = (None, "running")  # states of a task whose log may still grow
_FILTERS = ("limit", "offset", "order_by", "state")
_NDJSON = "application/x-ndjson"


@get(_TASKS, guards=[may(Role.VIEWER)])
async def list_task_instances(
    dag_id: FromPath[str], run_id: FromPath[str], request: AnyRequest, core: TheCore
) -> wire.TaskInstances:
    """List the blocks of a run in their order; of mapped ones the items."""
    return await _list(dag_id, run_id, request, core, task_id=None)


@get(f"{_TASKS}/{{task_id:str}}", guards=[may(Role.VIEWER)])
async def get_task_instance(
    dag_id: FromPath[str], run_id: FromPath[str], task_id: FromPath[str], core: TheCore
) -> wire.TaskInstance:
    """Read one block of a run."""
    found = await _find(core, dag_id, run_id, task_id)
    if found[0].map_index != UNMAPPED:
        raise Refused("Task instance is mapped, add the map_index value to the URL", status=404)
    return found[0]


@get(f"{_TASKS}/{{task_id:str}}/listMapped", guards=[may(Role.VIEWER)])
async def list_mapped(
    dag_id: FromPath[str], run_id: FromPath[str], task_id: FromPath[str], request: AnyRequest, core: TheCore
) -> wire.TaskInstances:
    """List the items of a mapped block."""
    return await _list(dag_id, run_id, request, core, task_id=task_id)


@get(f"{_TASKS}/{{task_id:str}}/tries", guards=[may(Role.VIEWER)])
async def list_tries(
    dag_id: FromPath[str], run_id: FromPath[str], task_id: FromPath[str], request: AnyRequest, core: TheCore
) -> wire.TaskInstances:
    """List the tries of one block of a run."""
    task = await _find_one(core, dag_id, run_id, task_id, _map_index(Parameters(request).text("map_index")))
    return await _show_tries(core, dag_id, run_id, task)


@get(f"{_TASKS}/{{task_id:str}}/{{map_index:str}}", guards=[may(Role.VIEWER)])
async def get_mapped(
    dag_id: FromPath[str], run_id: FromPath[str], task_id: FromPath[str], map_index: FromPath[str], core: TheCore
) -> wire.TaskInstance:
    """Read one item of a mapped block."""
    return await _find_one(core, dag_id, run_id, task_id, _map_index(map_index))


@get(f"{_TASKS}/{{task_id:str}}/{{map_index:str}}/tries", guards=[may(Role.VIEWER)])
async def list_mapped_tries(
    dag_id: FromPath[str], run_id: FromPath[str], task_id: FromPath[str], map_index: FromPath[str], core: TheCore
) -> wire.TaskInstances:
    """List the tries of one item of a mapped block."""
    task = await _find_one(core, dag_id, run_id, task_id, _map_index(map_index))
    return await _show_tries(core, dag_id, run_id, task)


@get(f"{_TASKS}/{{task_id:str}}/logs/{{try_number:str}}", guards=[may(Role.VIEWER)])
async def get_log(
    dag_id: FromPath[str],
    run_id: FromPath[str],
    task_id: FromPath[str],
    try_number: FromPath[str],
    request: AnyRequest,
    core: TheCore,
) -> Response[Any]:
    """Read what a block wrote in one try: a page as JSON, or everything as lines of JSON."""
    accept = request.headers.get("accept", "*/*")
    if not accept.startswith(("*/*", "application/json", _NDJSON)):
        raise Refused("Only application/json or application/x-ndjson is supported", status=406)
    asked = Parameters(request)
    map_index, after = _map_index(asked.text("map_index")), errors.from_cursor(asked.text("token") or "")
    attempt = queries.integer(("path", "try_number"), try_number, least=1)
    named = await find_run(core, dag_id, run_id)
    tasks = [task for task in wire.show_tasks(named, {}) if (task.task_id, task.map_index) == (task_id, map_index)]
    if not tasks or attempt > max(tasks[0].try_number, 1):
        raise Refused("TaskInstance not found", status=404)
    pages = log_pages.pages(core, named.run, (task_id, map_index, attempt), after)
    if accept.startswith(_NDJSON):
        return Stream(_encoded(pages), media_type=_NDJSON)
    part = await log_pages.first_of(pages, after, is_full=asked.text("full_content") in ("true", "True", "1"))
    is_open = part.has_more or (tasks[0].state in _OPEN and attempt >= tasks[0].try_number)
    token = log_pages.to_cursor(part.end) if is_open else None
    return Response(wire.LogPage([wire.show_line(line) for line in part.lines], token))


async def _list(
    dag_id: str, run_id: str, request: AnyRequest, core: Core, *, task_id: str | None
) -> wire.TaskInstances:
    if ALL in (dag_id, run_id):
        raise errors.not_served("The list of the task instances of several runs")
    asked = Parameters(request)
    span, states, order = queries.span(asked), asked.texts("state"), asked.texts("order_by")
    for name in request.query_params:
        if name not in _FILTERS:
            raise errors.not_served(f"The filter {name}")
    for attribute in order:
        if attribute.lstrip("-") not in _ORDERS:
            raise disallowed_order(attribute)
    found = await _show(core, await find_run(core, dag_id, run_id))
    if task_id is not None:
        found = [task for task in found if task.task_id == task_id and task.map_index != UNMAPPED]
    wanted = [task for task in found if not states or (task.state or "none") in states]
    wanted = sorted_by(order, wanted)
    return wire.TaskInstances(wanted[span.offset : span.offset + span.limit], len(wanted))


async def _show(core: Core, named: NamedRun) -> list[wire.TaskInstance]:
    return wire.show_tasks(named, blocks_of(await find_dag(core, named.run.pipeline_id)))


async def _find(core: Core, dag_id: str, run_id: str, task_id: str) -> Sequence[wire.TaskInstance]:
    named = await find_run(core, dag_id, run_id)
    found = [task for task in await _show(core, named) if task.task_id == task_id]
    if not found:
        what = f"The Task Instance with dag_id: `{dag_id}`, run_id: `{run_id}` and task_id: `{task_id}` was not found"
        raise Refused(what, status=404)
    return found


async def _find_one(core: Core, dag_id: str, run_id: str, task_id: str, map_index: int) -> wire.TaskInstance:
    for task in await _find(core, dag_id, run_id, task_id):
        if task.map_index == map_index:
            return task
    raise Refused(
        f"The Mapped Task Instance with dag_id: `{dag_id}`, run_id: `{run_id}`, task_id: `{task_id}`, "
        f"and map_index: `{map_index}` was not found",
        status=404,
    )


async def _show_tries(core: Core, dag_id: str, run_id: str, task: wire.TaskInstance) -> wire.TaskInstances:
    named = await find_run(core, dag_id, run_id)
    found = [wire.narrow(one) for one in await tries(core, named.run, task)]
    return wire.TaskInstances(found, len(found))


async def _encoded(pages: AsyncIterator[Sequence[LogLine]]) -> AsyncIterator[bytes]:
    async for page in pages:
        yield b"".join(msgspec.json.encode(wire.show_line(line)) + b"\n" for line in page)


def _map_index(text: str | None) -> int:
    return UNMAPPED if text is None else queries.integer(("path", "map_index"), text, least=UNMAPPED)


handlers = (
    list_task_instances,
    get_task_instance,
    list_mapped,
    list_tries,
    get_mapped,
    list_mapped_tries,
    get_log,
)
