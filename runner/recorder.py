"""What the runner tells the database: the entries of many runs in one commit, each run's in order and fenced.

A run's owner numbers its changes and log lines, so nothing is asked before it is written. Entries that are made while a
commit is under way leave together with the next one.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence

import msgspec

from schemas.clock import DatabaseClock
from schemas.entries import BlockEntry, ChangeEntry, LogEntry, OutputEntry, RunEntry
from schemas.errors import LeaseLost
from schemas.groupcommit import GroupCommit
from schemas.outputs import UNMAPPED, Output
from schemas.queue import Doorbell
from schemas.runs import Claimed, RunError
from schemas.states import BlockState, LogLevel, RunState
from schemas.store import ledger
from schemas.store.db import Database

HOLD_S = 3600.0  # as long as it takes: only the lease says when to give up
_encode = msgspec.json.Encoder(enc_hook=repr).encode


class _Leaf:
    """The entries of one run that leave in one commit."""

    def __init__(self, run_id: uuid.UUID, epoch: int) -> None:
        self.run = RunEntry(run_id, epoch, 0)
        self.blocks: dict[tuple[str, int], BlockEntry] = {}  # a block that began and ended in one commit is one row
        self.outputs: list[OutputEntry] = []
        self.changes: list[ChangeEntry] = []
        self.logs: list[LogEntry] = []
        self.is_open = True


class Page:
    """One run's page in the ledger, written by its owner alone."""

    def __init__(self, recorder: "Recorder", run: Claimed) -> None:
        self._recorder = recorder
        self._run_id = run.id
        self._epoch = run.epoch
        self._attempt = run.attempt
        self._seq = run.seq
        self._leaf: _Leaf | None = None
        self._written: asyncio.Future[bool] | None = None

    def run(self, state: RunState, error: RunError | None) -> None:
        """Write the terminal state of the run."""
        leaf = self._open()
        leaf.run.state, leaf.run.error = state, _error(error)
        change = ChangeEntry(leaf.run.run_id, self._next(leaf), time.monotonic(), "run", state, None, self._attempt)
        change.error = leaf.run.error
        leaf.changes.append(change)

    def block(
        self,
        block_id: str,
        state: BlockState,
        attempt: int,
        *,
        map_index: int = UNMAPPED,
        row_count: int | None = None,
        queue_ms: int | None = None,
        duration_ms: int | None = None,
        error: RunError | None = None,
        output: Output | None = None,
    ) -> None:
        """Write where a block, or an item of a mapped one, stands, and its output once it has one."""
        leaf, now, encoded = self._open(), time.monotonic(), _error(error)
        before = leaf.blocks.get((block_id, map_index))
        entry = BlockEntry(
            self._run_id, block_id, state, attempt, row_count, duration_ms, None, None, encoded, map_index, queue_ms
        )
        if state is BlockState.RUNNING:
            entry.began_at = now
        elif state is not BlockState.PENDING:
            entry.began_at = before.began_at if before else None
            entry.ended_at = now
        leaf.blocks[block_id, map_index] = entry
        if output is not None:
            leaf.outputs.append(_output(self._run_id, block_id, map_index, output))
        change = ChangeEntry(
            self._run_id, self._next(leaf), now, "block", state, block_id, attempt, row_count, duration_ms, encoded
        )
        change.map_index, change.queue_ms = _shown(map_index), queue_ms
        leaf.changes.append(change)

    def log(
        self,
        block_id: str,
        attempt: int,
        *,
        map_index: int = UNMAPPED,
        level: LogLevel,
        message: str,
        fields: dict[str, object],
    ) -> None:
        """Write one line of a block's log."""
        leaf, now, encoded = self._open(), time.monotonic(), _encode(fields)
        line = LogEntry(self._run_id, self._next(leaf), now, block_id, attempt, level, message, encoded)
        line.map_index = _shown(map_index)
        leaf.logs.append(line)

    async def commit(self) -> None:
        """Wait until everything written so far is committed; raises LeaseLost when the run is no longer ours."""
        if self._written is not None and not await asyncio.shield(self._written):
            raise LeaseLost

    def _open(self) -> _Leaf:
        if self._leaf is None or not self._leaf.is_open:
            self._leaf = _Leaf(self._run_id, self._epoch)
            self._written = self._recorder.submit(self._leaf)
        return self._leaf

    def _next(self, leaf: _Leaf) -> int:
        self._seq += 1
        leaf.run.seq = self._seq
        return self._seq


class Recorder:
    """Commits the pages of all runs that this runner owns."""

    def __init__(self, db: Database, doorbell: Doorbell, *, clock: DatabaseClock) -> None:
        self._db = db
        self._clock = clock
        self._doorbell = doorbell
        self._leaves: GroupCommit[_Leaf, bool] = GroupCommit(self._commit, hold_s=HOLD_S, max_waiting=1 << 40)

    def page(self, run: Claimed) -> Page:
        """Open the page of a run that was just claimed."""
        return Page(self, run)

    def submit(self, leaf: _Leaf) -> "asyncio.Future[bool]":
        """Take a leaf; it can be added to until its commit begins."""
        future = self._leaves.submit(leaf)
        future.add_done_callback(_read)
        return future

    async def close(self) -> None:
        """Wait until everything is committed."""
        await self._leaves.close()

    async def _commit(self, leaves: list[_Leaf]) -> Sequence[bool]:
        for leaf in leaves:
            leaf.is_open = False
        current = _of_newest_claims(leaves)
        applied = await ledger.record(
            self._db,
            [leaf.run for leaf in current],
            blocks=[entry for leaf in current for entry in leaf.blocks.values()],
            outputs=[entry for leaf in current for entry in leaf.outputs],
            changes=[entry for leaf in current for entry in leaf.changes],
            logs=[entry for leaf in current for entry in leaf.logs],
            clock_ahead_s=self._clock.ahead_s,
        )
        self._doorbell.tell(applied)
        own = frozenset(current)
        return [leaf in own and leaf.run.run_id in applied for leaf in leaves]


def _of_newest_claims(leaves: Sequence[_Leaf]) -> list[_Leaf]:
    """Leave out what an earlier claim of ours still had to say of a run: entries name the run, not the claim."""
    newest: dict[uuid.UUID, int] = {}
    for leaf in leaves:
        newest[leaf.run.run_id] = max(leaf.run.epoch, newest.get(leaf.run.run_id, 0))
    return [leaf for leaf in leaves if leaf.run.epoch == newest[leaf.run.run_id]]


def _output(run_id: uuid.UUID, block_id: str, map_index: int, output: Output) -> OutputEntry:
    where = output.data, output.object, output.size
    return OutputEntry(run_id, block_id, map_index, output.format, *where, output.preview)


def _shown(map_index: int) -> int | None:
    return None if map_index == UNMAPPED else map_index


def _error(error: RunError | None) -> bytes | None:
    return None if error is None else _encode(error)


def _read(future: "asyncio.Future[bool]") -> None:
    """A log line's commit is awaited by nobody in particular; its failure is the run's, at the next `commit`."""
    if not future.cancelled():
        future.exception()
