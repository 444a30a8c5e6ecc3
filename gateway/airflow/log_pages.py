"""The log of one try of a task instance, page by page, and the tokens by which a client reads on."""

import base64
import binascii
from collections.abc import AsyncIterator, Sequence

import msgspec

from gateway.airflow.words import UNMAPPED
from gateway.core import Core
from gateway.logs import LogFilter
from schemas.pages import Page
from schemas.runs import LogLine, Run

LINES = 1000  # of one page
FULL = 10  # pages of a log that is asked for in full


class Part(msgspec.Struct, frozen=True):
    """Some lines of a log, where they end, and whether there are more."""

    lines: Sequence[LogLine]
    end: int
    has_more: bool


async def pages(core: Core, run: Run, place: tuple[str, int, int], after: int) -> AsyncIterator[Sequence[LogLine]]:
    """Read the log of a task id, map index and try number behind a position; the last page is not full."""
    task_id, map_index, attempt = place
    which = LogFilter(block_id=task_id, map_index=None if map_index == UNMAPPED else map_index, attempt=attempt)
    is_full = True
    while is_full:
        lines = await core.logs.list_page(str(run.id), Page(LINES, str(after)), which)
        is_full = len(lines) > LINES
        yield lines[:LINES]
        after = lines[:LINES][-1].seq if lines else after


async def first_of(found: AsyncIterator[Sequence[LogLine]], after: int, *, is_full: bool) -> Part:
    """Take the first page behind a position, or as much as is shown of a log in full."""
    lines: list[LogLine] = []
    number, has_more = 0, False
    async for page in found:
        lines += page
        number += 1
        has_more = len(page) == LINES
        if number == (FULL if is_full else 1):
            break
    return Part(lines, lines[-1].seq if lines else after, has_more)


def to_cursor(position: int) -> str:
    """Write where a page begins."""
    return base64.urlsafe_b64encode(str(position).encode()).decode()


def from_cursor(cursor: str) -> int:
    """Read a cursor back, an empty one as the beginning; raises ValueError."""
    try:
        return max(0, int(base64.urlsafe_b64decode(cursor.encode()).decode())) if cursor else 0
    except binascii.Error as error:
        raise ValueError(cursor) from error
