"""The log of a run: page by page as objects, or whole as a text file."""

import datetime as dt
import re
import uuid
from collections.abc import AsyncIterator, Sequence

import msgspec

from schemas.pages import Page
from schemas.runs import LogLine
from schemas.states import LogLevel
from schemas.store import logs, runs
from schemas.store.db import Database

EXPORT_PAGE = 500  # lines of at most 16 KiB each are in memory at once
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
Pages = AsyncIterator[Sequence[LogLine]]


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines are shown: those of this level and the more severe ones, of this block, item, attempt and time."""

    block_id: str | None = None
    map_index: int | None = None
    level: LogLevel | None = None
    attempt: int | None = None
    created_after: dt.datetime | None = None
    created_before: dt.datetime | None = None


class Export(msgspec.Struct, frozen=True):
    """A log as a text file: its name, and its lines in pieces."""

    name: str
    pieces: AsyncIterator[bytes]


class Logs:
    """Reads what blocks wrote."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def list_page(self, key: str, page: Page, which: LogFilter) -> list[LogLine]:
        """Read log lines in order; raises NotFound."""
        run_id = await runs.find_id(self._db, key)
        return await self._read(run_id, which, after=page.after_number, limit=page.limit + 1)

    async def export(self, key: str, which: LogFilter) -> Export:
        """Read all lines as text, bit by bit; raises NotFound, or Unavailable as long as nothing was read."""
        run = await runs.get(self._db, key, largest_body=0)
        return Export(f"run-{run.number}-log.txt", as_file(await self._begin(run.id, which)))

    async def pages(self, key: str, which: LogFilter) -> Pages:
        """Read all lines, bit by bit; raises what `export` raises."""
        return await self._begin(await runs.find_id(self._db, key), which)

    async def _begin(self, run_id: uuid.UUID, which: LogFilter) -> Pages:
        return self._pages(run_id, which, await self._read(run_id, which, after=0, limit=EXPORT_PAGE))

    async def _pages(self, run_id: uuid.UUID, which: LogFilter, lines: Sequence[LogLine]) -> Pages:
        while lines:
            yield lines
            last, is_full = lines[-1].seq, len(lines) == EXPORT_PAGE
            lines = await self._read(run_id, which, after=last, limit=EXPORT_PAGE) if is_full else ()

    async def _read(self, run_id: uuid.UUID, which: LogFilter, *, after: int, limit: int) -> list[LogLine]:
        return await logs.list_page(
            self._db,
            run_id,
            after=after,
            block_id=which.block_id,
            map_index=which.map_index,
            levels=None if which.level is None else _from(which.level),
            attempt=which.attempt,
            created_after=which.created_after,
            created_before=which.created_before,
            limit=limit,
        )


async def as_file(pages: Pages) -> AsyncIterator[bytes]:
    """Write the lines as text, bit by bit."""
    async for lines in pages:
        yield "".join(map(as_text, lines)).encode()


def as_text(line: LogLine) -> str:
    r"""Write a log line as one line of text: time, level, block (with its item), message, fields as JSON.

    What could steer a terminal, or begin a line of its own, is escaped: `\n`, `\x1b`.
    """
    at = line.at.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    item = "" if line.map_index is None else f"[{line.map_index}]"
    fields = bytes(line.fields).decode(errors="replace")
    words = [f"{at}Z", f"[{line.level}]", f"[{line.block_id or 'run'}{item}]", line.message]
    if fields != "{}":
        words.append(fields)
    return _STEERING.sub(_escape, " ".join(words)) + "\n"


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return _NAMED.get(found[0]) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def _from(level: LogLevel) -> list[LogLevel]:
    levels = list(LogLevel)
    return levels[levels.index(level) :]
