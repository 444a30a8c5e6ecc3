"""A mapped block in one run: what each of its items receives, how each has ended, and what that makes of the block."""

from collections.abc import Iterable, Sequence

import msgspec

from runner.wire import Reason, Refused
from schemas.outputs import Format, Output
from schemas.runs import BegunBlock, RunError
from schemas.states import BlockState

MOST_ITEMS = 10_000
NOTHING = Output(data=msgspec.msgpack.encode(None), size=1)
_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class Items:
    """The items of a mapped block; `given` is what each receives, `since` when they began (the loop's clock)."""

    def __init__(self, given: Sequence[Output], *, since: float = 0.0) -> None:
        self.given = given
        self.since = since
        self.outputs: list[Output | None] = [None] * len(given)
        self._states: list[BlockState | None] = [None] * len(given)
        self._errors: dict[int, RunError] = {}
        self._waiting = len(given)

    def recall(self, ended: Iterable[BegunBlock]) -> None:
        """Note how items have ended under an earlier owner of the run."""
        for item in ended:
            is_lost = item.state is BlockState.SUCCESS and item.output is None
            if item.map_index < len(self.given) and not is_lost:
                self.end(item.map_index, item.state, output=item.output, error=item.failure)

    def end(
        self, index: int, state: BlockState, *, output: Output | None = None, error: RunError | None = None
    ) -> bool:
        """Note how an item has ended, and tell whether it was the last one."""
        self._states[index] = state
        self.outputs[index] = output
        if error is not None:
            self._errors[index] = error
        self._waiting -= 1
        return self.have_ended

    @property
    def have_ended(self) -> bool:
        return self._waiting == 0

    @property
    def open(self) -> list[int]:
        """The items that have not ended."""
        return [index for index, state in enumerate(self._states) if state is None]

    @property
    def state(self) -> BlockState:
        """What the block is once all items have ended: skipped items are no failure, and no items are a success."""
        worst = (BlockState.FAILED, BlockState.CANCELLED)
        return next((state for state in worst if state in self._states), BlockState.SUCCESS)

    @property
    def error(self) -> RunError | None:
        """The error of the first item that failed, with a word about the others."""
        failed = [index for index, state in enumerate(self._states) if state is BlockState.FAILED]
        if not failed:
            return None
        error, others = self._errors[failed[0]], len(failed) - 1
        more = f" (and {others:,} more of {len(self.given):,} items failed)" if others else ""
        return msgspec.structs.replace(error, message=f"item {failed[0]}: {error.message}{more}")


def split(output: Output, *, block_id: str, source: str) -> list[Output]:
    """Cut the list that a block returned into its items, without reading them. Raises Refused when there is no list."""
    if output is NOTHING:
        return []
    where = f"block {block_id!r} maps over the output of {source!r}"
    if output.format is not Format.MSGPACK or output.data is None:
        raise Refused(Reason.MAP_INVALID, f"{where}, which is a table or too large to map over; return a list")
    try:
        items = _split(output.data)
    except msgspec.DecodeError:
        raise Refused(Reason.MAP_INVALID, f"{where}, which is no list") from None
    if len(items) > MOST_ITEMS:
        raise Refused(Reason.MAP_INVALID, f"{where}, which has {len(items):,} items; {MOST_ITEMS:,} are the most")
    return [Output(data=data, size=len(data)) for data in map(bytes, items)]
