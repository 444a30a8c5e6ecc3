"""A run as callers see it, made out of its row: the same in answers of the API and in what a callback tells."""

from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec

from schemas import payload
from schemas.notify import mask_url
from schemas.payload import Kind
from schemas.runs import BlockRun, Run, RunRow
from schemas.states import Origin

_NULL = msgspec.Raw(b"null")
_SHARED = tuple(name for name in Run.__struct_fields__ if name in RunRow.__struct_fields__ and name != "callback_url")


def show_run(row: RunRow, block_runs: Sequence[BlockRun], *, event_url: Callable[[UUID], str]) -> Run:
    """Build what is shown; `event_url` says where the body of an event is, for when it is only described."""
    return Run(
        event_variables=_event_variables(row, event_url),
        resumed_from=row.parent_id if row.origin is Origin.RESUME else None,
        callback_url=row.callback_url and mask_url(row.callback_url),
        block_runs=tuple(block_runs),
        **{name: getattr(row, name) for name in _SHARED},
    )


def _event_variables(row: RunRow, event_url: Callable[[UUID], str]) -> msgspec.Raw:
    if row.event_id is None or row.event_kind is None:
        return _NULL
    content_type, url = row.event_content_type or "", event_url(row.event_id)
    if row.event_body is None or row.event_kind is Kind.BINARY:
        reference = payload.reference(row.event_size or 0, row.event_sha256 or "", content_type=content_type, url=url)
        return msgspec.Raw(msgspec.json.encode(reference))
    return msgspec.Raw(payload.as_json(row.event_kind, row.event_body, content_type=content_type, url=url))
