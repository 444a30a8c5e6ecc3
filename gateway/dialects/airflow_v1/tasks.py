"""`.../dagRuns/{run_id}/taskInstances`: the blocks of a run, their tries and their logs."""

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Stream

from gateway.airflow import log_pages
from gateway.airflow.pipelines import blocks_of
from gateway.airflow.standings import Standing, sorted_by, standings, tries
from gateway.airflow.words import POOL, UNMAPPED
from gateway.core import Core
from gateway.dialects.airflow_v1 import errors, wire
from gateway.dialects.airflow_v1.accepting import prefers_json
from gateway.dialects.airflow_v1.forms import Form
from gateway.dialects.airflow_v1.keys import may
from gateway.dialects.airflow_v1.queries import LARGEST_LIMIT, Query, bounds, path_integer
from gateway.dialects.airflow_v1.runs import ALL
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCore
from gateway.logs import as_text
from schemas.errors import NotFound
from schemas.runs import LogLine, NamedRun
from schemas.states import Role

V = TypeVar("V", dt.datetime, float)
MOST_RUNS = 100  # of one batch
_TASKS = "/api/v1/dags/{dag_id:str}/dagRuns/{run_id:str}/taskInstances"
_TASK = f"{_TASKS}/{{task_id:str}}"
_FILTERS = (
    "limit",
    "offset",
    "state",
    "pool",
    "queue",
    *bounds("execution_date", "start_date", "end_date", "duration"),
)
_ORDERS = ("state", "duration", "start_date", "end_date", "map_index")


@get(_TASKS, guards=[may(Role.VIEWER)])
async def list_task_instances(
    dag_id: FromPath[str], run_id: FromPath[str], request: AnyRequest, core: TheCore
) -> wire.TaskInstances:
    """List the blocks of a run in their order; of mapped ones the items."""
    asked = Query(request, _FILTERS)
    if ALL in (dag_id, run_id):
        raise errors.not_served("A list of task instances of several runs that a batch does not name")
    try:
        named, found = await _read(core, dag_id, run_id)
    except NotFound:
        return wire.TaskInstances([], 0)
    return _part(named, found, asked)


@post(f"{_TASKS}/list", guards=[may(Role.VIEWER)], status_code=200)
async def list_task_instances_batch(
    dag_id: FromPath[str], run_id: FromPath[str], request: AnyRequest, core: TheCore
) -> wire.TaskInstances:
    """List the blocks of the runs that the body names: all `dag_run_ids` of all `dag_ids`."""
    Query(request)
    form = await Form.read(
        request,
        core.settings.body_limit,
        ("page_offset", "page_limit", "dag_ids", "dag_run_ids", "task_ids", "state"),
    )
    offset, limit = form.number("page_offset", default=0), form.number("page_limit", default=LARGEST_LIMIT, least=1)
    dag_ids = form.texts("dag_ids") if dag_id == ALL else [dag_id]
    run_ids = form.texts("dag_run_ids") if run_id == ALL else [run_id]
    task_ids, states = form.texts("task_ids"), form.texts("state")
    if not 0 < len(dag_ids) * len(run_ids) <= MOST_RUNS:
        raise errors.not_served(f"A batch that does not name dag_ids and dag_run_ids, at most {MOST_RUNS} runs,")
    found = [
        task
        for dag in dag_ids
        for run in run_ids
        for task in await _read_if_any(core, dag, run)
        if (not task_ids or task.task_id in task_ids) and (not states or (task.state or "none") in states)
    ]
    return wire.TaskInstances(found[offset : offset + limit], len(found))


@get(_TASK, guards=[may(Role.VIEWER)])
async def get_task_instance(
    dag_id: FromPath[str], run_id: FromPath[str], task_id: FromPath[str], core: TheCore
) -> wire.TaskInstance:
    """Read one block of a run."""
    named, found = await _find(core, dag_id, run_id, task_id)
    if found[0].map_index != UNMAPPED:
        raise _not_found("Task instance is mapped, add the map_index value to the URL")
    return wire.show_task(named, found[0])


@get(f"{_TASK}/listMapped", guards=[may(Role.VIEWER)])
async def list_mapped(
    dag_id: FromPath[str], run_id: FromPath[str], task_id: FromPath[str], request: AnyRequest, core: TheCore
) -> wire.TaskInstances:
    """List the items of a mapped block."""
    asked = Query(request, (*_FILTERS, "order_by"))
    order = asked.texts("order_by")
    for attribute in order:
        if attribute.lstrip("-") not in _ORDERS:
            raise Refused(f"Ordering with '{attribute}' is not supported")
    named, found = await _find(core, dag_id, run_id, task_id)
    items = sorted_by(order, [one for one in found if one.map_index != UNMAPPED])
    return _part(named, items, asked)


@get(f"{_TASK}/tries", guards=[may(Role.VIEWER)])
async def list_tries(
    dag_id: FromPath[str], run_id: FromPath[str], task_id: FromPath[str], core: TheCore
) -> wire.TaskInstances:
    """List the tries of one block of a run."""
    return await _tries(core, dag_id, run_id, task_id, UNMAPPED)


@get(f"{_TASK}/{{map_index:str}}", guards=[may(Role.VIEWER)])
async def get_mapped(
    dag_id: FromPath[str], run_id: FromPath[str], task_id: FromPath[str], map_index: FromPath[str], core: TheCore
) -> wire.TaskInstance:
    """Read one item of a mapped block."""
    named, one = await _find_one(core, dag_id, run_id, task_id, path_integer(map_index))
    return wire.show_task(named, one)


@get(f"{_TASK}/{{map_index:str}}/tries", guards=[may(Role.VIEWER)])
async def list_mapped_tries(
    dag_id: FromPath[str], run_id: FromPath[str], task_id: FromPath[str], map_index: FromPath[str], core: TheCore
) -> wire.TaskInstances:
    """List the tries of one item of a mapped block."""
    return await _tries(core, dag_id, run_id, task_id, path_integer(map_index))


@get(f"{_TASK}/logs/{{try_number:str}}", guards=[may(Role.VIEWER)])
async def get_log(
    dag_id: FromPath[str],
    run_id: FromPath[str],
    task_id: FromPath[str],
    try_number: FromPath[str],
    request: AnyRequest,
    core: TheCore,
) -> Response[wire.LogPage] | Response[str] | Stream:
    """Read what a block wrote in one try: a page as JSON where that is preferred, or everything as text."""
    asked, attempt = Query(request, ("full_content", "map_index", "token")), path_integer(try_number)
    map_index, after = asked.integer("map_index"), _read_token(asked.text("token") or "")
    try:
        named, one = await _find_one(core, dag_id, run_id, task_id, UNMAPPED if map_index is None else map_index)
    except Refused:
        raise errors.titled("TaskInstance not found", status=404) from None
    wants_json = prefers_json(request.headers.get("accept", "*/*"))
    if not 1 <= attempt <= max(one.try_number, 1):
        return _say(f"Error fetching the logs. Try number {attempt} is invalid.", wants_json=wants_json)
    pages = log_pages.pages(core, named.run, (task_id, one.map_index, attempt), after if wants_json else 0)
    if not wants_json:
        return Stream(_as_text(pages), media_type="text/plain")
    part = await log_pages.first_of(pages, after, is_full=bool(asked.flag("full_content")))
    return Response(wire.LogPage(_python_text(_text(part.lines)), log_pages.to_cursor(part.end)))


def _say(text: str, *, wants_json: bool) -> Response[wire.LogPage] | Response[str]:
    if wants_json:
        return Response(wire.LogPage(_python_text(text), log_pages.to_cursor(0)))
    return Response(f"{wire.HOST}\n{text}\n", media_type="text/plain")


def _python_text(text: str) -> str:
    return repr([(wire.HOST, text)])


def _text(lines: Sequence[LogLine]) -> str:
    return "".join(map(as_text, lines))


async def _as_text(pages: AsyncIterator[Sequence[LogLine]]) -> AsyncIterator[bytes]:
    yield f"{wire.HOST}\n".encode()
    async for page in pages:
        yield _text(page).encode()


def _read_token(token: str) -> int:
    try:
        return log_pages.from_cursor(token)
    except ValueError:
        raise errors.titled("Bad Signature. Please use only the tokens provided by the API.") from None


def _part(named: NamedRun, found: Sequence[Standing], asked: Query) -> wire.TaskInstances:
    span, date = asked.span(), wire.date_of(named.run)
    wanted = [wire.show_task(named, one) for one in found if _matches(one, date, asked)]
    return wire.TaskInstances(wanted[span.offset : span.offset + span.limit], len(wanted))


def _matches(one: Standing, date: dt.datetime, asked: Query) -> bool:
    words = {"state": one.state or "none", "pool": POOL, "queue": one.queue}
    dates = {"execution_date": date, "start_date": one.start_date, "end_date": one.end_date}
    return (
        all(not asked.texts(name) or word in asked.texts(name) for name, word in words.items())
        and all(
            _is_between(moment, asked.moment(f"{name}_gte"), asked.moment(f"{name}_lte"))
            for name, moment in dates.items()
        )
        and _is_between(one.duration, asked.number("duration_gte"), asked.number("duration_lte"))
    )


def _is_between(value: V | None, least: V | None, most: V | None) -> bool:
    """Say whether a value is in a range; without bounds everything is, also what has no value."""
    if value is None:
        return least is None and most is None
    return (least is None or value >= least) and (most is None or value <= most)


async def _read(core: Core, dag_id: str, run_id: str) -> tuple[NamedRun, list[Standing]]:
    named = await core.runs.named(dag_id, run_id)
    return named, standings(named.run, blocks_of(await core.catalog.get_pipeline(dag_id)))


async def _read_if_any(core: Core, dag_id: str, run_id: str) -> list[wire.TaskInstance]:
    try:
        named, found = await _read(core, dag_id, run_id)
    except NotFound:
        return []
    return [wire.show_task(named, one) for one in found]


async def _find(core: Core, dag_id: str, run_id: str, task_id: str) -> tuple[NamedRun, list[Standing]]:
    try:
        named, found = await _read(core, dag_id, run_id)
    except NotFound:
        raise _not_found() from None
    chosen = [one for one in found if one.task_id == task_id]
    if not chosen:
        raise _not_found()
    return named, chosen


async def _find_one(core: Core, dag_id: str, run_id: str, task_id: str, map_index: int) -> tuple[NamedRun, Standing]:
    named, found = await _find(core, dag_id, run_id, task_id)
    for one in found:
        if one.map_index == map_index:
            return named, one
    raise _not_found()


async def _tries(core: Core, dag_id: str, run_id: str, task_id: str, map_index: int) -> wire.TaskInstances:
    named, one = await _find_one(core, dag_id, run_id, task_id, map_index)
    found = [wire.show_try(named, attempt) for attempt in await tries(core, named.run, one)]
    return wire.TaskInstances(found, len(found))


def _not_found(detail: str | None = None) -> Refused:
    return errors.titled("Task instance not found", detail, status=404)


handlers = (
    list_task_instances,
    list_task_instances_batch,
    get_task_instance,
    list_mapped,
    list_tries,
    get_mapped,
    list_mapped_tries,
    get_log,
)
