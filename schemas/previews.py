"""What of an output is shown at a glance: its first rows and columns, every cell of a bounded size, safe as JSON.

The block host makes the preview of what it does not keep in a row of the database; the gateway that of the rest.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

MOST_ROWS = 50
MOST_COLUMNS = 256
MOST_BYTES = 256 << 10
LONGEST_TEXT = 500
_MOST_ITEMS = 20
_DEEPEST = 5
_SAFE_INTEGER = 2**53
_CUT = "…"

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """The first rows of a table, or (`columns` and `rows` are null) the `value` of an output that is none.

    `row_count` counts all rows, `truncated` says that not all of the output is shown.
    """

    columns: list[str] | None = None
    rows: list[dict[str, Any]] | None = None
    value: Any | UnsetType = UNSET
    row_count: int | None = None
    truncated: bool = False


def preview_of(value: Any, *, row_count: int | None = None, most: int = MOST_ROWS) -> Preview:
    """Make the preview of plain data, as msgpack decodes it; a list of objects is a table.

    `row_count` is given when `value` is only the beginning of the list.
    """
    if isinstance(value, list):
        count = len(value) if row_count is None else row_count
        if all(isinstance(row, Mapping) for row in value[:most]):
            return table(value[:most], row_count=count, most=most)
        return _fitting(Preview(value=bounded(value[:most]), row_count=count, truncated=count > most))
    shown = bounded(value)
    return _fitting(Preview(value=shown, truncated=shown is not value and shown != value))


def table(rows: Iterable[Mapping[Any, Any]], *, row_count: int, most: int = MOST_ROWS) -> Preview:
    """Make the preview of a table out of its first rows."""
    columns: dict[str, None] = {}
    shown = []
    for row in rows:
        cells = {_cut(_text(name)): bounded(cell, 1) for name, cell in list(row.items())[:MOST_COLUMNS]}
        columns |= dict.fromkeys(cells)
        shown.append(cells)
    names = list(columns)[:MOST_COLUMNS]
    is_cut = row_count > most or len(columns) > MOST_COLUMNS
    kept = [{name: row.get(name) for name in names} for row in shown]
    return _fitting(Preview(columns=names, rows=kept, row_count=row_count, truncated=is_cut))


def encode(preview: Preview) -> bytes:
    """Write a preview as JSON."""
    return _encode(preview)


def bounded(value: Any, depth: int = 0) -> Any:
    """Copy a value so that it is JSON of a bounded size: long texts, lists and objects are cut, odd types are text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -_SAFE_INTEGER <= value <= _SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _cut(_text(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return _cut(base64.b64encode(bytes(value[:LONGEST_TEXT])).decode())
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return _bounded_mapping(value, depth)
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return _bounded_sequence(list(value), depth)
    return _cut(_text(_as_text(value)))


def _bounded_mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    items = list(value.items())
    shown = {_cut(_text(key)): bounded(item, depth + 1) for key, item in items[:_MOST_ITEMS]}
    return shown | {_CUT: f"{len(items) - _MOST_ITEMS} more"} if len(items) > _MOST_ITEMS else shown


def _bounded_sequence(items: Sequence[Any], depth: int) -> list[Any]:
    most = MOST_ROWS if depth == 0 else _MOST_ITEMS
    shown = [bounded(item, depth + 1) for item in items[:most]]
    return [*shown, f"{_CUT} {len(items) - most} more"] if len(items) > most else shown


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return f"{type(value).__name__} of {len(value)}"  # as deep as this nobody reads
    try:
        return str(value.isoformat() if hasattr(value, "isoformat") else value)
    except Exception:  # noqa: BLE001  (somebody else's class)
        return type(value).__name__


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return text[: LONGEST_TEXT + 1].encode("utf-8", "replace").decode()


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + _CUT


def _fitting(preview: Preview) -> Preview:
    """Leave rows out, from the last to the first, until the whole is small enough for a row of the database."""
    while len(_encode(preview)) > MOST_BYTES:
        if preview.rows:
            kept = preview.rows[: len(preview.rows) // 2]
            preview = msgspec.structs.replace(preview, rows=kept, truncated=True)
        elif isinstance(preview.value, list) and preview.value:
            kept = preview.value[: len(preview.value) // 2]
            preview = msgspec.structs.replace(preview, value=kept, truncated=True)
        else:
            text = _cut(_encode(preview.value).decode()) if preview.value is not UNSET else UNSET
            preview = msgspec.structs.replace(preview, value=text, columns=(preview.columns or [])[:1], truncated=True)
    return preview
