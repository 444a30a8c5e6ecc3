"""Two blocks that do nothing but return."""

from runner import Run, pipeline

quick = pipeline("quick")


@quick.block
def first(run: Run) -> object:
    return run.event_variables


@quick.block
def second(first: object) -> object:
    return first
