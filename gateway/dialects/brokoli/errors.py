"""Brokoli's errors: `{"error": "..."}` in its own words, and beside them `detail`, where ours say more."""

import contextlib
from collections.abc import Iterator
from http import HTTPStatus

import msgspec
from litestar import Response

from gateway.errors import Problem, Refused
from schemas.errors import FieldError, NotFound

_NAMES = {"/variables": "/params", "/start": "/start_date", "/end": "/end_date"}


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every error."""

    error: str
    detail: str | None = None


def envelope(problem: Problem) -> Response[bytes]:
    """Answer with an Error; what is wrong with a request is 400, and an unknown key is 403, as in Brokoli."""
    status = _status(problem)
    content = msgspec.json.encode(_body(problem, status))
    headers = dict(problem.headers)
    return Response(content, status_code=status, media_type="application/json", headers=headers)


@contextlib.contextmanager
def finding(message: str) -> Iterator[None]:
    """Say in Brokoli's words that there is no such thing."""
    try:
        yield
    except NotFound as error:
        raise Refused(message, status=404, detail=error.message) from None


def finding_pipeline() -> contextlib.AbstractContextManager[None]:
    """Say that there is no such pipeline."""
    return finding("pipeline not found")


def finding_run() -> contextlib.AbstractContextManager[None]:
    """Say that there is no such run."""
    return finding("run not found")


def _status(problem: Problem) -> int:
    if problem.status == HTTPStatus.UNAUTHORIZED and problem.has_key and problem.code == "unauthenticated":
        return HTTPStatus.FORBIDDEN
    return HTTPStatus.BAD_REQUEST if problem.status == HTTPStatus.UNPROCESSABLE_ENTITY else problem.status


def _body(problem: Problem, status: int) -> Error:
    if problem.code == "unauthenticated":
        return Error("API key required" if status == HTTPStatus.UNAUTHORIZED else "invalid API key")
    if problem.code == "forbidden":
        return Error("insufficient permissions", problem.detail)
    if problem.errors:
        return Error("; ".join(map(_as_text, problem.errors)))
    return Error(problem.detail, problem.extra.get("detail"))


def _as_text(error: FieldError) -> str:
    begin, slash, rest = error.pointer[1:].partition("/")
    pointer = _NAMES.get(f"/{begin}", f"/{begin}") + slash + rest
    return f"{pointer}: {error.message}"
