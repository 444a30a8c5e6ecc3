"""`/api/v1/dags/{dag_id}/clearTaskInstances`: blocks of a run that are to begin anew.

Airflow clears any task instances in place. A run of ours is resumed where it failed, or repeated whole: a choice of
blocks that means neither is refused rather than to do more, or less, than was asked for.
"""

from collections.abc import Sequence

from litestar import post
from litestar.params import FromPath

from gateway.airflow.standings import Standing, standings
from gateway.airflow.words import NOT_SUCCEEDED
from gateway.dialects.airflow_v1 import errors, wire
from gateway.dialects.airflow_v1.catalog import find_dag
from gateway.dialects.airflow_v1.forms import Form
from gateway.dialects.airflow_v1.keys import may
from gateway.dialects.airflow_v1.queries import Query
from gateway.dialects.airflow_v1.runs import find_run
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.states import Role

_NOT_SERVED = ("only_running", "include_future", "include_past", "include_upstream")
_WITHOUT_EFFECT = ("include_subdags", "include_parentdag", "reset_dag_runs", "include_downstream")
_NAMES = ("dry_run", "only_failed", "task_ids", "dag_run_id", "start_date", "end_date", *_NOT_SERVED, *_WITHOUT_EFFECT)


@post("/api/v1/dags/{dag_id:str}/clearTaskInstances", guards=[may(Role.OPERATOR)], status_code=200)
async def clear_task_instances(
    dag_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller
) -> wire.References:
    """Resume a run where it failed, or repeat it (`only_failed` false); unless `dry_run` is false, only say so."""
    Query(request)
    form = await Form.read(request, core.settings.body_limit, _NAMES)
    run_id, task_ids = _read_run_id(form), form.texts("task_ids")
    is_dry, only_failed = form.flag("dry_run", default=True), form.flag("only_failed", default=True)
    await find_dag(core, dag_id)
    named = await find_run(core, dag_id, run_id)
    candidates = [one for one in standings(named.run, {}) if not only_failed or one.state in NOT_SUCCEEDED]
    chosen = [one for one in candidates if not task_ids or one.task_id in task_ids]
    if not is_dry and chosen:
        _expect_all(candidates, chosen)
        await core.control.requeue(named.run, caller, is_whole=not only_failed, note=None)
    return wire.References([wire.refer(named, standing) for standing in chosen])


def _read_run_id(form: Form) -> str:
    for name in _NOT_SERVED:
        if form.flag(name):
            raise errors.not_served(f"The option {name}")
    for name in _WITHOUT_EFFECT:
        form.flag(name)
    run_id = None if form.is_null("dag_run_id") else form.text("dag_run_id")
    if run_id is None or form.has("start_date") or form.has("end_date"):
        raise errors.not_served("Clearing what no dag_run_id names, such as all runs between two dates,")
    return run_id


def _expect_all(candidates: Sequence[Standing], chosen: Sequence[Standing]) -> None:
    left = sorted({one.task_id for one in candidates} - {one.task_id for one in chosen})
    if left:
        raise errors.not_served(f"Clearing some task instances and not {', '.join(left)}")


handlers = (clear_task_instances,)
