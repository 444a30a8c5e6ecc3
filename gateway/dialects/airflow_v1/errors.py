"""Airflow 2's errors: problem details (RFC 7807) whose `type` is a section of its reference, and never a 422."""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response

from gateway.errors import PROBLEM_JSON, Problem, Refused
from schemas.errors import NotFound

_REFERENCE = "https://airflow.apache.org/docs/apache-airflow/2.10.5/stable-rest-api-ref.html#section/Errors/"
_SECTIONS = {
    400: "BadRequest",
    401: "Unauthenticated",
    403: "PermissionDenied",
    404: "NotFound",
    409: "AlreadyExists",
    500: "Unknown",
}
_NO_SECTION = "about:blank"
_NO_ROUTE = NotFound().message  # other things that are missing are named
_NO_URL = (
    "The requested URL was not found on the server. If you entered the URL manually please check your spelling and "
    "try again."
)
_NO_METHOD = "The method is not allowed for the requested URL."


def envelope(problem: Problem) -> Response[bytes]:
    """Answer `{"detail", "status", "title", "type"}`; what is wrong with a request is always a 400."""
    status = problem.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else problem.title
    body = {
        "detail": _detail(problem),
        "status": status,
        "title": problem.extra.get("title", phrase),
        "type": _type(problem, status),
    }
    content = msgspec.json.encode(body)
    return Response(content, status_code=status, media_type=PROBLEM_JSON, headers=dict(problem.headers))


def _type(problem: Problem, status: int) -> str:
    section = _SECTIONS.get(status)
    return _NO_SECTION if section is None or _is_unrouted(problem) else _REFERENCE + section


def _detail(problem: Problem) -> Any:
    if problem.code in ("unauthenticated", "forbidden"):
        return None
    if _is_unrouted(problem):
        return _NO_URL
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return _NO_METHOD
    return problem.extra.get("detail", problem.detail)


def _is_unrouted(problem: Problem) -> bool:
    return problem.status == HTTPStatus.NOT_FOUND and problem.detail == _NO_ROUTE


def titled(title: str, detail: str | None = None, *, status: int = 400) -> Refused:
    """Refuse under a title of its own; Airflow often says all in it."""
    return Refused(detail or title, status=status, title=title, detail=detail)


def invalid(what: object, name: str | None = None) -> Refused:
    """Refuse a value in the words of Airflow's schema checks, which name the member at the end."""
    return Refused(str(what) if name is None else f"{what} - '{name}'")


def of_field(name: str, complaint: str) -> Refused:
    """Refuse a value in the words of Airflow's forms, which are Python's of a dictionary."""
    return Refused(str({name: [complaint]}))


def not_served(what: str) -> Refused:
    """Say that something of Airflow's does not exist here, rather than to ignore it."""
    return Refused(f"{what} is not served by Penstock.")


def dag_not_found(dag_id: str) -> Refused:
    """Say that there is no such DAG."""
    return titled("DAG not found", f"The DAG with dag_id: {dag_id} was not found", status=404)


def run_not_found(dag_id: str, run_id: str, *, title: str = "DAGRun not found") -> Refused:
    """Say that a DAG has no such run."""
    return titled(title, f"DAGRun with DAG ID: '{dag_id}' and DagRun ID: '{run_id}' not found", status=404)


def run_missing(dag_id: str, run_id: str) -> Refused:
    """Say the same as `run_not_found`, as what changes a run says it."""
    return titled(f"Dag Run id {run_id} not found in dag {dag_id}", status=404)
