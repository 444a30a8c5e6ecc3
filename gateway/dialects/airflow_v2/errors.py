"""Airflow 3's errors: `detail` is a text, a list of what is wrong with the request, or an object of the database's."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response

from gateway.airflow import log_pages
from gateway.errors import Problem, Refused
from schemas.errors import FieldError, NotFound

_NO_ROUTE = NotFound().message  # other things that are missing are named


def envelope(problem: Problem) -> Response[bytes]:
    """Answer `{"detail": ...}`, or `{"error": "API route not found"}` where there is no route."""
    status, headers = problem.status, dict(problem.headers)
    if problem.code == "unauthenticated" and problem.has_key:
        status = HTTPStatus.FORBIDDEN  # Airflow: who has a token, and a wrong one, is known but may not
        headers.pop("WWW-Authenticate", None)
    if problem.code == "malformed" and status == HTTPStatus.BAD_REQUEST:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    content = msgspec.json.encode(_body(problem), enc_hook=str)
    return Response(content, status_code=status, media_type="application/json", headers=headers)


def _body(problem: Problem) -> dict[str, Any]:
    if "said" in problem.extra:
        return {"detail": problem.extra["said"]}
    if problem.status == HTTPStatus.NOT_FOUND and problem.detail == _NO_ROUTE:
        return {"error": "API route not found"}
    if problem.code == "malformed":
        context = {"error": problem.detail}
        return {"detail": [fault("json_invalid", ("body", 0), "JSON decode error", {}, ctx=context)]}
    if problem.errors:
        return {"detail": [_of_parameter(error) for error in problem.errors]}
    return {"detail": _text(problem)}


def _text(problem: Problem) -> str:
    if problem.code == "unauthenticated":
        return "Invalid JWT token" if problem.has_key else "Not authenticated"
    if problem.code == "forbidden":
        return "Forbidden"
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return "Method Not Allowed"
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return "Internal Server Error"
    return problem.detail


def _of_parameter(error: FieldError) -> dict[str, Any]:
    return fault("value_error", ("query", *error.pointer.strip("/").split("/")), f"Value error, {error.message}", None)


def fault(
    kind: str, place: tuple[str | int, ...], message: str, given: Any, *, ctx: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Describe one wrong value as pydantic does, by which Airflow reads requests."""
    described = {"type": kind, "loc": list(place), "msg": message, "input": given}
    return described if ctx is None else described | {"ctx": ctx}


def unprocessable(*faults: Mapping[str, Any]) -> Refused:
    """Refuse a request whose values are not those of its model."""
    return Refused(str(faults[0]["msg"]), status=422, said=list(faults))


def refuse_value(message: str) -> Refused:
    """Refuse a value that Airflow looks at behind its model, with a text of its own."""
    return Refused(message, status=422)


def value_rejected(what: str) -> Refused:
    """Say what Airflow's database does not take."""
    return Refused(what, status=422, said=_of_database("Value rejected by database", what))


def duplicate(what: str) -> Refused:
    """Say that there is such a run already; Airflow keeps to itself which."""
    return Refused(what, status=409, said=_of_database("Unique constraint violation", what))


def _of_database(reason: str, message: str) -> dict[str, str]:
    return {"reason": reason, "statement": "hidden", "orig_error": "hidden", "message": message}


def not_served(what: str) -> Refused:
    """Say that something of Airflow's does not exist here, rather than to ignore it."""
    return Refused(f"{what} is not served by Penstock.", status=400)


def from_cursor(cursor: str) -> int:
    """Read where a page begins; raises Refused."""
    try:
        return log_pages.from_cursor(cursor)
    except ValueError:
        raise Refused("Invalid cursor token", status=400) from None


def dag_not_found(dag_id: str) -> Refused:
    """Say that there is no such DAG."""
    return Refused(f"The Dag with ID: `{dag_id}` was not found", status=404)


def run_not_found(dag_id: str, run_id: str) -> Refused:
    """Say that a DAG has no such run."""
    return Refused(f"The DagRun with dag_id: `{dag_id}` and run_id: `{run_id}` was not found", status=404)
