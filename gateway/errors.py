"""Errors as HTTP: which status a class has, and what its answer looks like (RFC 9457 problem details).

This is the only place that knows both. A dialect answers in its own product's shape by giving envelopes for patterns of
paths. No answer holds the path of the request: on a token URL the path is a secret.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from gateway.credentials import mask_foreign
from schemas.errors import (
    BadSignature,
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    PenstockError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from schemas.telemetry import redact

PROBLEM_JSON = "application/problem+json"
CLIENT_GONE = 499


class UnsupportedMedia(Malformed):
    """The body is encoded in a way that is not read here; send it as it is, without Content-Encoding."""

    code = "unsupported_media"


class ClientGone(PenstockError):
    """The client went away before its request was complete."""

    code = "client_gone"


class UnknownCaller(Unauthenticated):
    """This API key is not known, or was revoked.

    `has_key` tells it from a call without any, and `challenge` is how the API that was called asks for one.
    """

    def __init__(self, *, has_key: bool = True, challenge: str = "Bearer") -> None:
        super().__init__(None if has_key else Unauthenticated().message)
        self.has_key = has_key
        self.challenge = challenge


class Refused(PenstockError):
    """This request is refused.

    A dialect says with it what is wrong in its product's words, under its product's `status`; `extra` is for its own
    envelope.
    """

    code = "refused"

    def __init__(self, message: str | None = None, *, status: int = 400, **extra: Any) -> None:
        super().__init__(message, **extra)
        self.status = status


STATUS: Mapping[type[PenstockError], int] = MappingProxyType(
    {
        PenstockError: 500,
        Invalid: 422,
        Malformed: 400,
        UnsupportedMedia: 415,
        Unauthenticated: 401,
        BadSignature: 401,
        Refused: 400,
        Forbidden: 403,
        NotFound: 404,
        Conflict: 409,
        TooLarge: 413,
        ClientGone: CLIENT_GONE,
        Unavailable: 503,
    }
)
_FOUND_BY_FRAMEWORK: Mapping[int, tuple[str, str | None]] = MappingProxyType(  # status: code, our words for it
    {
        400: (Malformed.code, None),
        401: (Unauthenticated.code, None),
        403: (Forbidden.code, None),
        404: (NotFound.code, NotFound().message),
        405: ("method_not_allowed", "This method is not allowed here; the Allow header names those that are."),
        413: (TooLarge.code, TooLarge().message),
        415: (UnsupportedMedia.code, None),
    }
)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, whatever shape the answer has; `extra` are further members of it, `headers` its headers.

    `has_key` tells a caller with an unknown key from one without any: some products answer them differently.
    """

    status: int
    code: str
    detail: str
    has_key: bool = True
    errors: tuple[FieldError, ...] = ()
    extra: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}

    @property
    def title(self) -> str:
        return self.code.replace("_", " ").capitalize()


Envelope = Callable[[Problem], Response[bytes]]
Handler = Callable[[Request[Any, Any, Any], Any], Response[bytes]]


def problem_json(problem: Problem) -> Response[bytes]:
    """Answer with `application/problem+json`; extra members never replace the standard ones."""
    body = {
        **problem.extra,
        "type": f"/problems/{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = problem.errors
    content = msgspec.json.encode(body, enc_hook=str)
    return Response(content, status_code=problem.status, media_type=PROBLEM_JSON, headers=dict(problem.headers))


def envelope_for(path: str, envelopes: Mapping[str, Envelope]) -> Envelope:
    """Choose the envelope of the pattern with which `path` begins; problem+json when there is none.

    In a pattern such as `/api/pipelines/{id}/run`, `{...}` stands for any one segment. Of several the longest counts,
    and of those the one with the fewest such places.
    """
    segments = _segments(path)
    matching = [pattern for pattern in envelopes if _begins_with(segments, _segments(pattern))]
    return envelopes[max(matching, key=_precision)] if matching else problem_json


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def _begins_with(segments: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(pattern) <= len(segments) and all(
        wanted == given or wanted.startswith("{") for wanted, given in zip(pattern, segments, strict=False)
    )


def _precision(pattern: str) -> tuple[int, int]:
    segments = _segments(pattern)
    return len(segments), -sum(segment.startswith("{") for segment in segments)


def exception_handlers(envelopes: Mapping[str, Envelope] | None = None) -> ExceptionHandlersMap:
    """Build Litestar's exception handlers; `envelopes` maps patterns of paths to the shapes of the dialects."""
    shapes = dict(envelopes or {})

    def answer(describe: Callable[[Any], Problem], *, unexpected: bool = False) -> Handler:
        def handle(request: Request[Any, Any, Any], error: Any) -> Response[bytes]:
            problem = describe(error)
            if unexpected or problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                _report(request, error)
            return envelope_for(request.scope["path"], shapes)(problem)

        return handle

    unreadable = answer(_describe_unreadable, unexpected=True)
    return {
        PenstockError: answer(describe_error),
        HTTPException: answer(describe_http_exception),
        msgspec.MsgspecError: unreadable,
        UnicodeDecodeError: unreadable,
        RecursionError: unreadable,
        Exception: answer(_describe_unexpected, unexpected=True),
    }


def describe_error(error: PenstockError) -> Problem:
    """Describe one of our own errors; the status is that of its nearest class in STATUS."""
    status = error.status if isinstance(error, Refused) else _status_of(type(error))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _describe_unexpected(error)
    return Problem(
        status=status,
        code=error.code,
        detail=_quiet(error.message),
        errors=tuple(_redacted(field) for field in error.errors) if isinstance(error, Invalid) else (),
        extra={name: _quiet(value) if isinstance(value, str) else value for name, value in error.extra.items()},
        headers=_headers(error),
        has_key=not isinstance(error, UnknownCaller) or error.has_key,
    )


def _status_of(kind: type[PenstockError]) -> int:
    return next(STATUS[parent] for parent in kind.__mro__ if parent in STATUS)


def describe_http_exception(error: HTTPException) -> Problem:
    """Describe an error that the framework found: no route, wrong method, wrong parameters, too large."""
    if isinstance(error, ValidationException):
        return describe_error(Invalid(errors=_field_errors(error.extra)))
    status = error.status_code
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _describe_unexpected(error)
    code, detail = _FOUND_BY_FRAMEWORK.get(status, ("refused", None))
    return Problem(status=status, code=code, detail=detail or _quiet(error.detail), headers=error.headers or {})


def _redacted(field: FieldError) -> FieldError:
    return FieldError(_quiet(field.pointer), _quiet(field.message))


def _quiet(text: str) -> str:
    """An answer repeats no token, wherever the caller put it."""
    return redact(mask_foreign(text))


def _headers(error: PenstockError) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": error.challenge if isinstance(error, UnknownCaller) else "Bearer"}
    if isinstance(error, Unavailable):
        return {"Retry-After": str(error.retry_after)}
    return {}


def _field_errors(found: object) -> tuple[FieldError, ...]:
    """Litestar lists `{"message", "key", "source"}`; only the body can be pointed into."""
    errors = []
    for item in found if isinstance(found, list) else []:
        key, message = str(item.get("key", "")), _quiet(str(item.get("message", "")))
        source = str(getattr(item.get("source"), "value", item.get("source") or "body"))
        if source == "body":
            errors.append(FieldError("".join(f"/{part}" for part in key.split(".") if part), message))
        else:
            errors.append(FieldError("", f"{source} parameter {key}: {message}"))
    return tuple(errors)


def _describe_unreadable(_error: Exception) -> Problem:
    return describe_error(Malformed("The body cannot be read."))


def _describe_unexpected(_error: Exception) -> Problem:
    return Problem(status=500, code="internal", detail="Something went wrong on our side; it is in the log.")


def _report(request: Request[Any, Any, Any], error: Exception) -> None:
    """Log what should not have happened, under the route's pattern: the path itself may hold a token."""
    structlog.get_logger().error(
        "unexpected error",
        method=request.scope["method"],
        route=request.scope.get("path_template"),
        exc_info=error,
    )
