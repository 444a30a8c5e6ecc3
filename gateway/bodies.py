"""Request bodies: raw bytes under a limit, and strict JSON whose errors point at the field.

Handlers read bodies only through here. Litestar's typed bodies answer 500 to invalid UTF-8 and to deep nesting.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from litestar import Request

from gateway.errors import ClientGone, UnsupportedMedia
from schemas.errors import FieldError, Invalid, Malformed, TooLarge

T = TypeVar("T")
Headers = Iterable[tuple[bytes, bytes]]
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_AT = " - at `"
_KEPT = "body"  # in the state of a request whose body was read before its handler


async def read_body(request: Request[Any, Any, Any], limit: int) -> bytes:
    """Read the body as the sender wrote it, whatever its Content-Encoding.

    Raises TooLarge before a byte is read when Content-Length is beyond `limit` bytes, and as soon as a chunked body
    grows past it; ClientGone when the sender hangs up.
    """
    declared = _header(request.scope["headers"], b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise TooLarge.of_body(limit)
    kept: bytes | None = request.scope["state"].get(_KEPT)
    if kept is not None:
        if len(kept) > limit:
            raise TooLarge.of_body(limit)
        return kept
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientGone
        part = message["body"]
        size += len(part)
        if size > limit:
            raise TooLarge.of_body(limit)
        if not message.get("more_body"):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


async def keep_body(request: Request[Any, Any, Any], limit: int) -> bytes:
    """Read the body before the handler does, which still gets it; raises what `read_body` raises."""
    body = await read_body(request, limit)
    request.scope["state"][_KEPT] = body
    return body


async def read_json(request: Request[Any, Any, Any], type_: type[T], *, limit: int, default: T | None = None) -> T:
    """Read the body as `type_`; an empty one is `default`, if that is given.

    Raises Invalid with JSON Pointers when the JSON has the wrong shape, Malformed when it is no JSON, UnsupportedMedia
    when it is compressed, and what `read_body` raises.
    """
    if _header(request.scope["headers"], b"content-encoding") not in (None, b"", b"identity"):
        raise UnsupportedMedia
    body = await read_body(request, limit)
    if body:
        return decode_json(body, type_)
    if default is None:
        raise Invalid("The body is empty; a JSON object is expected.")
    return default


def decode_json(body: bytes, type_: type[T]) -> T:
    """Decode strictly: UTF-8, no trailing bytes, no conversions. Raises Invalid or Malformed."""
    try:
        body.decode()  # msgspec does not look into the strings that it skips
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8: byte {error.start} is wrong.") from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.") from None
    except msgspec.DecodeError as error:
        raise Malformed(f"The body is not JSON: {error}") from None


def to_pointer(path: str) -> str:
    """Translate msgspec's `$.a.b[0]` into the JSON Pointer `/a/b/0`.

    msgspec writes `[...]` for a value of a mapping without saying which: the pointer then ends at the mapping.
    """
    steps = path.partition("[...]")[0]
    found = (name or index for name, index in _STEP.findall(steps))
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in found)


def _invalid(text: str) -> Invalid:
    message, _, place = text.partition(_AT)
    return Invalid(errors=(FieldError(to_pointer(place.rpartition("$")[2].rstrip("`")), message),))


def _header(headers: Headers, wanted: bytes) -> bytes | None:
    return next((value.strip().lower() for name, value in headers if name == wanted), None)
