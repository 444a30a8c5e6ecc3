"""What the database must say of runs, in a few dicts, and what those who once owned one may want to write."""

import itertools
import uuid
from collections.abc import Sequence

import msgspec

from schemas.entries import BlockEntry, ChangeEntry, LogEntry, OutputEntry, RunEntry
from schemas.outputs import UNMAPPED, Format
from schemas.states import BlockState, LogLevel, RunState
from schemas.store import ledger
from schemas.store.db import Database


class ModelRun(msgspec.Struct):
    """What the database must say of a run."""

    state: RunState = RunState.QUEUED
    epoch: int = 0
    dispatch: int = 0
    seq: int = 1
    attempt: int = 0
    owner: uuid.UUID | None = None
    cancel: bool = False
    blocks: dict[str, tuple[BlockState, int]] = {}  # where each stands, and in which attempt
    resumed: uuid.UUID | None = None
    overruled: int = 0
    told: list[RunState] = msgspec.field(default_factory=lambda: [RunState.QUEUED])

    def move(self, state: RunState, *, owner: uuid.UUID | None = None) -> None:
        self.state, self.owner = state, owner
        self.seq += 1
        self.told = [*self.told, state]


class Claim(msgspec.Struct):
    """Who once owned a run, and the number of the last line that it wrote."""

    run_id: uuid.UUID
    runner: uuid.UUID
    epoch: int
    seq: int


class Pen:
    """What one claim wants to write, in one commit."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.seq = claim.seq
        self.blocks: list[BlockEntry] = []
        self.outputs: list[OutputEntry] = []
        self.changes: list[ChangeEntry] = []
        self.logs: list[LogEntry] = []
        self.state: RunState | None = None
        self.error: bytes | None = None

    def next(self) -> int:
        self.seq = self.claim.seq = self.seq + 1
        return self.seq

    def block(self, block_id: str, state: BlockState = BlockState.SUCCESS) -> None:
        run, epoch, has_ended = self.claim.run_id, self.claim.epoch, state is BlockState.SUCCESS
        self.blocks.append(BlockEntry(run, block_id, state, epoch, began_at=1.0, ended_at=2.0 if has_ended else None))
        if has_ended:
            self.outputs.append(OutputEntry(run, block_id, UNMAPPED, Format.MSGPACK, b"\xc0", None, 1))
        self.changes.append(ChangeEntry(run, self.next(), 2.0, "block", state, block_id, epoch))

    def log(self) -> None:
        self.logs.append(LogEntry(self.claim.run_id, self.next(), 1.5, "a", 1, LogLevel.INFO, "line", b"{}"))

    def finish(self, state: RunState) -> None:
        self.state = state
        self.error = b'{"type":"Error","message":"why"}' if state is RunState.FAILED else None
        self.changes.append(ChangeEntry(self.claim.run_id, self.next(), 3.0, "run", state))

    @property
    def run(self) -> RunEntry:
        return RunEntry(self.claim.run_id, self.claim.epoch, self.seq, self.state, self.error)


async def send(database: Database, pens: Sequence[Pen]) -> set[uuid.UUID]:
    """Write what these pens hold, in one commit."""
    return await ledger.record(
        database,
        [pen.run for pen in pens],
        blocks=list(itertools.chain.from_iterable(pen.blocks for pen in pens)),
        outputs=list(itertools.chain.from_iterable(pen.outputs for pen in pens)),
        changes=list(itertools.chain.from_iterable(pen.changes for pen in pens)),
        logs=list(itertools.chain.from_iterable(pen.logs for pen in pens)),
        clock_ahead_s=0.0,
    )
