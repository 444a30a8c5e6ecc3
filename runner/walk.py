"""Which blocks of one run may start, and which never will: the rules of the graph, without any I/O.

Each block counts how many blocks before it have not ended, so a step costs what it changes, however large the graph.
"""

from collections.abc import Iterable, Mapping

from schemas.pipelines import Block
from schemas.states import BlockState, TriggerRule

ENDED = frozenset(BlockState) - {BlockState.PENDING, BlockState.RUNNING}
BAD = frozenset({BlockState.FAILED, BlockState.UPSTREAM_FAILED})


def decide(rule: TriggerRule, *, waiting: int, bad: int, skipped: int) -> BlockState | None:
    """Say what a block becomes when so many blocks before it have not ended, ended badly, and were skipped.

    RUNNING says that it may start, None that it has to wait.
    """
    if rule is TriggerRule.ONE_FAILED:
        return BlockState.RUNNING if bad else None if waiting else BlockState.SKIPPED
    if bad and rule is not TriggerRule.ALL_DONE:
        return BlockState.UPSTREAM_FAILED
    if waiting:
        return None
    return BlockState.SKIPPED if skipped and rule is TriggerRule.ALL_SUCCESS else BlockState.RUNNING


class _Before:
    """What is known of the blocks before a block."""

    __slots__ = ("bad", "skipped", "waiting")

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.bad = 0
        self.skipped = 0


class Walk:
    """Where a run is in its graph. `states` has each block that may start (RUNNING), has ended, or never will start.

    `ended` says which blocks an earlier owner of the run left behind as ended.
    """

    def __init__(self, blocks: Iterable[Block], ended: Mapping[str, BlockState] | None = None) -> None:
        self.blocks = {block.id: block for block in blocks}
        self.states: dict[str, BlockState] = {}
        self._behind: dict[str, list[Block]] = {block_id: [] for block_id in self.blocks}
        self._before: dict[str, _Before] = {}
        self._ready: list[Block] = []
        self._given_up: list[tuple[Block, BlockState]] = []
        if ended:
            self.states.update(ended)
        for block in self.blocks.values():
            self._before[block.id] = _Before(len(block.upstream))
            for name in block.upstream:
                self._behind[name].append(block)
            if not block.upstream and block.id not in self.states:
                self._decide(block)
        for block_id, state in ended.items() if ended else ():
            self._tell(block_id, state)

    def take_ready(self) -> list[Block]:
        """Take the blocks that may start and were not taken yet; `queue` of each says where (None: the pipeline's)."""
        ready, self._ready = self._ready, []
        return ready

    def take_given_up(self) -> list[tuple[Block, BlockState]]:
        """Take the blocks that will never start, with the states that they have therefore; each comes once."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def end(self, block_id: str, state: BlockState) -> None:
        """Note how a block has ended; one that was cancelled decides nothing, since its run ends."""
        self.states[block_id] = state
        if state is not BlockState.CANCELLED:
            self._tell(block_id, state)

    def choose(self, block_id: str, chosen: Iterable[str]) -> None:
        """Skip the blocks directly behind this one that are not chosen, unless they have started already."""
        for block in self._behind[block_id]:
            if block.id not in chosen and block.id not in self.states:
                self._give_up(block, BlockState.SKIPPED)
                self._tell(block.id, BlockState.SKIPPED)

    def is_last(self, block_id: str) -> bool:
        """Tell whether no block stands behind this one."""
        return not self._behind[block_id]

    def open_blocks(self) -> list[Block]:
        """Return the blocks that have not ended."""
        return [block for block in self.blocks.values() if self.states.get(block.id) not in ENDED]

    def _tell(self, block_id: str, state: BlockState) -> None:
        """Tell the blocks behind one how it ended, and those behind them when that decides about them."""
        told = [(block_id, state)]
        while told:
            block_id, state = told.pop()
            for block in self._behind[block_id]:
                before = self._before[block.id]
                before.waiting -= 1
                before.bad += state in BAD
                before.skipped += state is BlockState.SKIPPED
                if block.id not in self.states and self._decide(block):
                    told.append((block.id, self.states[block.id]))

    def _decide(self, block: Block) -> bool:
        """Decide about a block if it is time, and tell whether it was given up."""
        before = self._before[block.id]
        state = decide(block.trigger_rule, waiting=before.waiting, bad=before.bad, skipped=before.skipped)
        if state is BlockState.RUNNING:
            self.states[block.id] = state
            self._ready.append(block)
        elif state is not None:
            self._give_up(block, state)
            return True
        return False

    def _give_up(self, block: Block, state: BlockState) -> None:
        self.states[block.id] = state
        self._given_up.append((block, state))
