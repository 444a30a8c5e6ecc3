"""Mage's errors, in its two shapes: those of its resources, and those of its triggers, here without any stack.

Mage answers 200 to almost everything. Here the status says what happened, unless PENSTOCK_MAGE_LEGACY_200 is set: then
what a caller did wrong is answered 200 with the same body, for those who look at `error` only. What is our own fault
keeps its status even then: a 2xx to a delivery that was not committed would lose it.
"""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response

from gateway.errors import Envelope, Problem, Refused
from schemas.settings import Settings
from schemas.telemetry import MASK

NO_SUCH_TRIGGER = "There is no such trigger, or its token is another one."
_FOREIGN_TOKEN = re.compile(r"\b[0-9a-f]{32}\b")  # where an id should be: it is not said again
_TYPES = {401: "invalid_api_key", 403: "unauthorized_access", 404: "record_not_found"}
_HONEST_IN_MAGE_TOO = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.METHOD_NOT_ALLOWED})


def resource_error(problem: Problem) -> dict[str, Any]:
    """Write `{"error": {"code", "message", "type"}, "status"}`, with `errors` where a field is wrong."""
    status = _status(problem)
    error: dict[str, Any] = {"code": status, "message": _message(problem), "type": _type(problem)}
    if problem.errors:
        error["errors"] = _field(problem)
    return {"error": error, "status": status}


def trigger_error(problem: Problem) -> dict[str, Any]:
    """Write `{"error": {"code", "errors", "exception", "message", "type"}, "url_parameters"}`.

    Mage puts its stack into `errors` and `message`, and the token into `url_parameters`; here they hold neither.
    """
    message = NO_SUCH_TRIGGER if problem.status == HTTPStatus.NOT_FOUND else _message(problem)
    error = {"code": _status(problem), "errors": [], "exception": message, "message": message, "type": _type(problem)}
    return {"error": error, "url_parameters": {}}


def envelopes_under(settings: Settings) -> Mapping[str, Envelope]:
    """Make the envelopes that a setting wants."""
    return _envelopes(is_legacy=settings.mage_legacy_200)


def invalid(message: str) -> Refused:
    """Say that a request is not what this API takes."""
    return Refused(message, kind="record_invalid")


def wrong_login() -> Refused:
    """Say that a login fits nobody."""
    return Refused("Email/username and/or password invalid.", status=401, kind="record_not_found")


def _envelopes(*, is_legacy: bool) -> dict[str, Envelope]:
    resource, trigger = _envelope(resource_error, is_legacy), _envelope(trigger_error, is_legacy)
    return {
        "/api/pipeline_schedules": resource,
        "/api/pipeline_schedules/{schedule}/pipeline_runs/{token}": trigger,
        "/api/pipeline_schedules/{schedule}/api_trigger": trigger,
        "/api/pipelines/{uuid}/pipeline_schedules": resource,
        "/api/pipeline_runs": resource,
        "/api/sessions": resource,
        "/api/events": trigger,
        "/api": trigger,  # its POST /api/runs, and whatever no other product claims
    }


def _envelope(write: Callable[[Problem], dict[str, Any]], is_legacy: bool) -> Envelope:
    def answer(problem: Problem) -> Response[bytes]:
        body, status = write(problem), _status(problem)
        if is_legacy and status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _HONEST_IN_MAGE_TOO:
            status = HTTPStatus.OK
        if is_legacy and "status" in body:
            body["status"] = HTTPStatus.OK
        headers = dict(problem.headers)
        return Response(msgspec.json.encode(body), status_code=status, media_type="application/json", headers=headers)

    return answer


def _status(problem: Problem) -> int:
    is_invalid = problem.status == HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.BAD_REQUEST if is_invalid else problem.status


def _message(problem: Problem) -> str:
    return _FOREIGN_TOKEN.sub(MASK, _words(problem))


def _words(problem: Problem) -> str:
    if problem.status == HTTPStatus.UNAUTHORIZED and problem.code == "unauthenticated":
        return "Invalid API key."
    if problem.code == "invalid" and problem.errors:
        return "; ".join(f"{error.pointer or '/'}: {error.message}" for error in problem.errors)
    return problem.detail


def _type(problem: Problem) -> str:
    kind = "record_invalid" if problem.code in ("invalid", "malformed") else "api_resource_error"
    return str(problem.extra.get("kind") or _TYPES.get(problem.status, kind))


def _field(problem: Problem) -> dict[str, Any]:
    first = problem.errors[0]
    return {
        "error": _FOREIGN_TOKEN.sub(MASK, first.message),
        "metadata": {"key": first.pointer.removeprefix("/"), "value": None},
    }


envelopes = _envelopes(is_legacy=False)
