"""What a block returned, as the bytes that are stored and handed to the blocks after it."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import msgspec

from runner.remote import Remote
from runner.wire import OUTPUT_LIMIT, Asked, Reason, Refused
from schemas.outputs import Output

_encode = msgspec.msgpack.Encoder().encode
_UNENCODABLE = (TypeError, ValueError, OverflowError, msgspec.MsgspecError)


def encode(value: Any, *, block_id: str) -> Output:
    """Encode an output as msgpack. Raises Refused when it is no data, or more than 16 MiB."""
    try:
        output = _encode(value)
    except RecursionError:
        raise Refused(
            Reason.OUTPUT_INVALID, f"block {block_id!r} returned data that is nested too deeply or contains itself"
        ) from None
    except _UNENCODABLE as error:
        raise Refused(Reason.OUTPUT_INVALID, _describe_culprit(value, error, block_id)) from None
    if len(output) > OUTPUT_LIMIT:
        raise Refused(
            Reason.OUTPUT_TOO_LARGE,
            f"block {block_id!r} returned {len(output):,} bytes, the limit is {OUTPUT_LIMIT:,}: "
            "store them elsewhere and return a reference (a path, a key, a URL)",
        )
    return Output(data=output, size=len(output))


def ask(remote: Remote, *, block_id: str) -> Asked:
    """Write down what a block wants another system to do. Raises Refused when that cannot be sent."""
    try:
        asked = Asked(**{"body": msgspec.json.encode(remote.json), **_all_but_json(remote)})
        msgspec.convert(msgspec.to_builtins(asked), Asked)
    except (*_UNENCODABLE, RecursionError) as error:
        raise Refused(
            Reason.OUTPUT_INVALID, f"block {block_id!r} returned a Remote that cannot be sent: {error}"
        ) from None
    return asked


def _all_but_json(remote: Remote) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(remote).items() if name != "json"}


def decode(output: Output) -> Any:
    """Build the value that a block returned."""
    return msgspec.msgpack.decode(output.data or b"")


def _describe_culprit(value: Any, error: Exception, block_id: str) -> str:
    path, culprit = _find_culprit(value)
    if isinstance(error, TypeError):
        return (
            f"block {block_id!r} returned {type(culprit).__name__} at {path}, which cannot be stored: "
            "return JSON-like data, a msgspec Struct or bytes"
        )
    return f"block {block_id!r} returned {type(culprit).__name__} at {path}, which cannot be stored: {error}"


def _find_culprit(value: Any) -> tuple[str, Any]:
    path = "$"
    while (step := next((step for step in _children(value) if not _is_encodable(step[1])), None)) is not None:
        path += step[0]
        value = step[1]
    return path, value


def _is_encodable(value: Any) -> bool:
    try:
        _encode(value)
    except (*_UNENCODABLE, RecursionError):
        return False
    return True


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f" key {key!r}", key) for key in value)
        yield from ((f".{key}", item) for key, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, msgspec.Struct):
        yield from ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value))
