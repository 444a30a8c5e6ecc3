"""What a block returned, as it is stored and handed on: a format, and its bytes or the key of the object with them."""

from enum import StrEnum

import msgspec

from schemas.states import BlockState

UNMAPPED = -1


class Format(StrEnum):
    """How the bytes of an output are read: plain data, or Arrow IPC that becomes what the block had returned."""

    MSGPACK = "msgpack"
    POLARS = "polars"
    PANDAS = "pandas"
    ARROW = "arrow"


class Output(msgspec.Struct, frozen=True, array_like=True):
    """One output: small ones carry their bytes in `data`, large ones name an `object` of the object store.

    On its way between runner and block host a large one lies in a file, `path`; `size` is in bytes. `preview` is JSON,
    made where the value still is one (schemas.previews), unless the bytes are here and plain.
    """

    format: Format = Format.MSGPACK
    data: bytes | None = None
    object: str | None = None
    path: str | None = None
    size: int = 0
    preview: bytes | None = None


class StoredOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Where a block stands, and its newest output, if it has one (then `format` says so).

    `preview` and `profile` are `null` while there are none.
    """

    state: BlockState
    row_count: int | None
    format: Format | None
    data: bytes | None
    object: str | None
    size: int | None
    preview: msgspec.Raw
    profile: msgspec.Raw
