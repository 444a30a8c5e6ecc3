"""What a block returned, as the bytes that are stored and handed to the blocks after it."""

import dataclasses
import io
import mmap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from runner import frames
from runner.remote import Remote
from runner.wire import OUTPUT_LIMIT, Asked, Call, Reason, Refused
from schemas import previews
from schemas.objects import INLINE_LIMIT
from schemas.outputs import Format, Output

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_UNENCODABLE = (TypeError, ValueError, OverflowError, msgspec.MsgspecError)


def encode(value: Any, call: Call) -> tuple[Output, int | None]:
    """Encode what the block of a call returned, and count its rows: msgpack, or Arrow IPC for a data frame.

    What is larger than a row of the database should be goes into a file of the call's spool. Raises Refused when it
    is no data, or larger than the call allows.
    """
    kind = frames.format_of(value)
    if kind is not None:
        return _encode_frame(value, kind, call)
    row_count = len(value) if isinstance(value, list) else None
    if row_count is not None and call.most_rows is not None:
        value = value[: call.most_rows]
    return _encode_data(value, row_count, call), row_count


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
    """Build the value that a block returned; raises Refused when this host cannot."""
    if output.format is not Format.MSGPACK:
        try:
            return frames.read(Path(output.path) if output.path else output.data or b"", output.format)
        except frames.Unfit as error:
            raise Refused(Reason.INPUT_MISSING, f"an input cannot be read: {error}") from None
    if output.path is None:
        return _decode(output.data or b"")
    with open(output.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _decode(data)


def _encode_data(value: Any, row_count: int | None, call: Call) -> Output:
    try:
        data = _encode(value)
    except RecursionError:
        raise Refused(
            Reason.OUTPUT_INVALID, f"block {call.block_id!r} returned data that is nested too deeply or contains itself"
        ) from None
    except _UNENCODABLE as error:
        raise Refused(Reason.OUTPUT_INVALID, _describe_culprit(value, error, call.block_id)) from None
    if len(data) <= INLINE_LIMIT:
        return Output(data=data, size=len(data))
    _check_size(len(data), call)
    preview = previews.encode(_preview(value, row_count))
    if call.spool is None:
        return Output(data=data, size=len(data), preview=preview)
    path = _new_file(call.spool)
    path.write_bytes(data)
    return Output(path=str(path), size=len(data), preview=preview)


def _preview(value: Any, row_count: int | None) -> previews.Preview:
    """Show the beginning of a list exactly as it is stored, and anything else as far as it is plain."""
    if isinstance(value, list):
        return previews.preview_of(_decode(_encode(value[: previews.MOST_ROWS])), row_count=row_count)
    return previews.preview_of(value)


def _encode_frame(value: Any, kind: Format, call: Call) -> tuple[Output, int]:
    try:
        table, row_count = frames.prepare(value, kind, most_rows=call.most_rows)
        data, path = _write(table, call)
        shown = previews.table(frames.first_rows(table, previews.MOST_ROWS), row_count=row_count)
    except Refused:
        raise
    except Exception as error:
        what = f"{type(value).__name__} of {kind.value}"
        raise Refused(
            Reason.OUTPUT_INVALID, f"block {call.block_id!r} returned a {what} that cannot be stored: {error}"
        ) from error
    size = len(data) if data is not None else path.stat().st_size if path else 0
    output = Output(kind, data, None, str(path) if path else None, size, previews.encode(shown))
    return output, row_count


def _write(table: Any, call: Call) -> tuple[bytes | None, Path | None]:
    """Write a table into memory when it is small, else into a file, unless that becomes small, too."""
    if call.spool is None or frames.size_of(table) <= INLINE_LIMIT:
        buffer = io.BytesIO()
        frames.write(table, buffer)
        if call.spool is None:
            _check_size(buffer.tell(), call)
        if call.spool is None or buffer.tell() <= INLINE_LIMIT:
            return buffer.getvalue(), None
    path = _new_file(call.spool)
    frames.write(table, path)
    size = path.stat().st_size
    if size > INLINE_LIMIT and size <= call.output_limit:
        return None, path
    data = path.read_bytes() if size <= INLINE_LIMIT else None
    path.unlink()
    _check_size(size, call)
    return data, None


def _check_size(size: int, call: Call) -> None:
    limit = OUTPUT_LIMIT if call.spool is None else call.output_limit
    if size > limit:
        raise Refused(
            Reason.OUTPUT_TOO_LARGE,
            f"block {call.block_id!r} returned {size:,} bytes, the limit is {limit:,}: "
            "store them elsewhere and return a reference (a path, a key, a URL)",
        )


def _new_file(spool: str) -> Path:
    folder = Path(spool)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / uuid.uuid4().hex


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
