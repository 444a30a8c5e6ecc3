"""Random graphs, rules, outcomes and orders: each block starts once, when its rule lets it, or is given up."""

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.walk import BAD, ENDED, Walk, decide
from schemas.pipelines import Block
from schemas.states import BlockState, TriggerRule

SUCCESS, FAILED, SKIPPED = BlockState.SUCCESS, BlockState.FAILED, BlockState.SKIPPED
UPSTREAM_FAILED, RUNNING = BlockState.UPSTREAM_FAILED, BlockState.RUNNING
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
OUTCOMES = st.sampled_from([SUCCESS, SUCCESS, FAILED, SKIPPED])


@st.composite
def graphs(draw: st.DrawFn) -> list[Block]:
    blocks: list[Block] = []
    for number in range(draw(st.integers(1, 12))):
        upstream = draw(st.sets(st.integers(0, number - 1), max_size=4)) if number else set()
        rules = [rule for rule in TriggerRule if upstream or rule is not TriggerRule.ONE_FAILED]
        names = tuple(f"b{other}" for other in sorted(upstream))
        blocks.append(Block(id=f"b{number}", upstream=names, trigger_rule=draw(st.sampled_from(rules))))
    return blocks


class Runner:
    """Executes a graph in the order of its dice, checks each step, and may die and be followed by another."""

    def __init__(self, blocks: list[Block], outcomes: list[BlockState], dice: random.Random) -> None:
        self.blocks = blocks
        self.outcome = {block.id: outcome for block, outcome in zip(blocks, outcomes, strict=True)}
        self.dice = dice
        self.walk = Walk(blocks)
        self.executing: list[Block] = []
        self.ended: dict[str, BlockState] = {}
        self.unchosen: set[str] = set()

    def step(self) -> bool:
        """Let one block that executes end; False when none does."""
        self.look()
        if not self.executing:
            return False
        block = self.executing.pop(self.dice.randrange(len(self.executing)))
        behind = [other.id for other in self.blocks if block.id in other.upstream]
        if self.outcome[block.id] is SUCCESS and behind and self.dice.random() < 0.3:
            chosen = set(self.dice.sample(behind, self.dice.randrange(len(behind) + 1)))
            self.unchosen |= set(behind) - chosen
            self.walk.choose(block.id, chosen)
            self.look()
        self.ended[block.id] = self.outcome[block.id]
        self.walk.end(block.id, self.outcome[block.id])
        self.look()
        return True

    def look(self) -> None:
        for block, state in self.walk.take_given_up():
            assert block.id not in self.ended
            assert state in (SKIPPED, UPSTREAM_FAILED)
            self.ended[block.id] = state
        for block in self.walk.take_ready():
            assert block.id not in self.ended
            assert block not in self.executing
            before = [self.ended.get(name) for name in block.upstream]
            if block.trigger_rule is TriggerRule.ONE_FAILED:
                assert BAD & set(before)
            else:
                assert None not in before
            self.executing.append(block)

    def die(self) -> None:
        """Forget everything but what was committed."""
        self.executing = []
        self.walk = Walk(self.blocks, self.ended)


def expected(block: Block, before: list[BlockState], outcome: BlockState) -> BlockState:
    """The rules as the documentation tells them, for the states in which the blocks before have ended."""
    failed, skipped = bool(BAD & set(before)), SKIPPED in before
    match block.trigger_rule:
        case TriggerRule.ALL_SUCCESS:
            return UPSTREAM_FAILED if failed else SKIPPED if skipped else outcome
        case TriggerRule.NONE_FAILED:
            return UPSTREAM_FAILED if failed else outcome
        case TriggerRule.ONE_FAILED:
            return outcome if failed else SKIPPED
        case TriggerRule.ALL_DONE:
            return outcome


@patient
@given(graphs(), st.lists(OUTCOMES, min_size=12, max_size=12), st.randoms(use_true_random=False), st.booleans())
def test_every_block_ends_as_its_rule_says(
    blocks: list[Block], outcomes: list[BlockState], dice: random.Random, is_mortal: bool
) -> None:
    runner = Runner(blocks, outcomes[: len(blocks)], dice)
    while runner.step():
        if is_mortal and dice.random() < 0.2:
            runner.die()

    assert runner.ended.keys() == {block.id for block in blocks}
    assert runner.walk.open_blocks() == []
    for block in blocks:
        before = [runner.ended[name] for name in block.upstream]
        allowed = {expected(block, before, runner.outcome[block.id])}
        if block.id in runner.unchosen:
            allowed.add(SKIPPED)
        assert runner.ended[block.id] in allowed


@patient
@given(graphs(), st.lists(OUTCOMES, min_size=12, max_size=12), st.randoms(use_true_random=False))
def test_the_order_in_which_blocks_end_changes_nothing(
    blocks: list[Block], outcomes: list[BlockState], dice: random.Random
) -> None:
    dice.random = lambda: 1.0  # type: ignore[method-assign]  # no branches: those race with failures beside them
    endings = []
    for _ in range(3):
        runner = Runner(blocks, outcomes[: len(blocks)], dice)
        while runner.step():
            pass
        endings.append(runner.ended)

    assert endings[0] == endings[1] == endings[2]


def test_a_block_waits_for_what_its_rule_needs() -> None:
    assert {rule: decide(rule, waiting=1, bad=1, skipped=1) for rule in TriggerRule} == {
        TriggerRule.ALL_SUCCESS: UPSTREAM_FAILED,
        TriggerRule.NONE_FAILED: UPSTREAM_FAILED,
        TriggerRule.ONE_FAILED: RUNNING,
        TriggerRule.ALL_DONE: None,
    }
    assert {rule: decide(rule, waiting=1, bad=0, skipped=1) for rule in TriggerRule} == dict.fromkeys(TriggerRule)
    assert {rule: decide(rule, waiting=0, bad=0, skipped=1) for rule in TriggerRule} == {
        TriggerRule.ALL_SUCCESS: SKIPPED,
        TriggerRule.NONE_FAILED: RUNNING,
        TriggerRule.ONE_FAILED: SKIPPED,
        TriggerRule.ALL_DONE: RUNNING,
    }


def test_what_is_behind_a_cancelled_block_stays_open() -> None:
    walk = Walk([Block(id="a"), Block(id="b", upstream=("a",), trigger_rule=TriggerRule.ALL_DONE)])
    walk.take_ready()
    walk.end("a", BlockState.CANCELLED)

    assert [block.id for block in walk.open_blocks()] == ["b"]
    assert (walk.take_ready(), walk.take_given_up()) == ([], [])


def test_a_failure_goes_through_a_thousand_blocks_in_a_row() -> None:
    blocks = [Block(id=f"b{n}", upstream=(f"b{n - 1}",) if n else ()) for n in range(1000)]
    walk = Walk(blocks)
    walk.take_ready()
    walk.end("b0", FAILED)

    assert len(walk.take_given_up()) == 999
    assert {walk.states[block.id] for block in blocks[1:]} == {UPSTREAM_FAILED}
    assert set(walk.states.values()) <= ENDED
