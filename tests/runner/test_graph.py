"""What a definition becomes, and every way in which it can be wrong."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any, TypedDict

import msgspec
import pytest

from runner import Run, pipeline
from runner.graph import Pipeline
from schemas.errors import Invalid
from schemas.pipelines import Block, Callback, Graph
from schemas.states import CallbackOn, TriggerRule


class Params(msgspec.Struct):
    region: str = "us"


@dataclasses.dataclass
class DataclassParams:
    region: str = "us"


class DictParams(TypedDict):
    region: str


def chain() -> Pipeline[None]:
    p = pipeline("chain")

    @p.block(retries=2, retry_delay=0.5, timeout=9)
    def last(middle: int, first: int, factor: int = 3) -> int:
        """Add them."""
        return middle + first * factor

    @p.block
    def middle(first: int) -> int:
        return first

    @p.block
    def first(run: Run) -> int:
        return run.number

    return p


def test_blocks_may_be_defined_in_any_order() -> None:
    assert chain().graph().blocks == (
        Block(id="first"),
        Block(id="middle", upstream=("first",)),
        Block(id="last", upstream=("middle", "first"), retries=2, retry_delay=0.5, timeout=9, doc="Add them."),
    )


def test_a_parameter_with_a_default_is_filled_when_it_is_named_like_a_block() -> None:
    p = pipeline("p")
    p.block(id="rows")(lambda: [1])
    p.block(id="count")(lambda rows=(), other=1: len(rows))
    assert p.steps()["count"].inputs == {"rows": "rows"}


@pytest.mark.parametrize("annotation", [Run, Run[Params], "Run", "Run[Params]", "runner.Run[Unknown]"])
def test_a_parameter_annotated_as_run_receives_the_run(annotation: Any) -> None:
    p = pipeline("p", params=Params)

    def block(context) -> None: ...

    block.__annotations__["context"] = annotation
    p.block(block)
    assert p.steps()["block"].run_parameters == ("context",)


@pytest.mark.parametrize("params", [Params, DataclassParams, DictParams])
def test_params_become_json_schema(params: type) -> None:
    schema = pipeline("p", params=params).params_schema
    assert schema is not None
    (definition,) = schema["$defs"].values()
    assert definition["properties"]["region"]["type"] == "string"


def test_params_are_read_strictly() -> None:
    p = pipeline("p", params=Params)
    assert p.read_params(b"{}") == Params()
    with pytest.raises(msgspec.ValidationError, match="region"):
        p.read_params(b'{"region": 1}')


def test_without_params_any_variables_are_taken() -> None:
    assert pipeline("p").read_params(b'{"a": 1}') is None


def test_what_a_block_and_its_pipeline_say_is_published() -> None:
    p = pipeline("p", queue="gpu", timeout=60)
    p.block(id="load", reads=["s3://raw"], writes=["orders", "orders"])(lambda: [1])
    p.block(id="work", map="load", queue="big", after=["load"])(lambda load: load)
    p.block(id="check", after=["load", "work"], trigger_rule="all_done")(lambda work: work)
    p.callback("failure", id="tell", retries=2)(lambda run: None)
    p.callback("success", id="note", block=["load", "work"], timeout=None)(lambda run: None)

    assert (p.queue, p.timeout) == ("gpu", 60)
    assert p.graph() == Graph(
        (
            Block(id="load", reads=("s3://raw",), writes=("orders",)),
            Block(id="work", upstream=("load",), map="load", queue="big"),
            Block(id="check", upstream=("work", "load"), after=("load",), trigger_rule=TriggerRule.ALL_DONE),
        ),
        (
            Callback(id="tell", on=CallbackOn.FAILURE, retries=2, timeout=60),
            Callback(id="note.load", on=CallbackOn.SUCCESS, block="load"),
            Callback(id="note.work", on=CallbackOn.SUCCESS, block="work"),
        ),
    )
    assert [block.inputs for block in p.graph().blocks] == [(), ("load",), ("work",)]


def test_one_function_may_be_called_back_for_several_ends() -> None:
    p = pipeline("p")
    p.block(id="load")(lambda: 0)

    @p.callback("success", id="good")
    @p.callback("failure", id="bad", block="load")
    def tell(run: Run) -> None: ...

    assert {name: step.function for name, step in p.steps().items() if name != "load"} == {"good": tell, "bad": tell}


def test_a_thousand_blocks_in_a_row_are_ordered() -> None:
    p = pipeline("deep")
    p.block(id="b0")(lambda: 0)
    for number in reversed(range(1, 1000)):
        p.block(id=f"b{number}")(eval(f"lambda b{number - 1}: 0"))
    assert [block.id for block in p.graph().blocks] == [f"b{number}" for number in range(1000)]


def declare(**options: Any) -> Callable[[], Any]:
    return lambda: pipeline("p").block(**options)(lambda: 0)


def declare_and_graph(**options: Any) -> Callable[[], Any]:
    def wrong() -> None:
        p = pipeline("p")
        p.block(id="a", **options)(lambda: 0)
        p.graph()

    return wrong


def twice() -> None:
    p = pipeline("p")
    p.block(id="a")(lambda: 0)
    p.block(id="a")(lambda: 0)


def cycle() -> None:
    p = pipeline("p")
    p.block(id="a")(lambda c: 0)
    p.block(id="b")(lambda a: 0)
    p.block(id="c")(lambda b: 0)
    p.graph()


def itself() -> None:
    p = pipeline("p")
    p.block(id="a")(lambda a: 0)
    p.graph()


def unknown() -> None:
    p = pipeline("p")
    p.block(id="load")(lambda: 0)
    p.block(id="count")(lambda laod: 0)
    p.graph()


def positional() -> None:
    p = pipeline("p")
    p.block(id="load")(lambda: 0)
    p.block(id="count")(lambda load, /: 0)
    p.graph()


def generator() -> None:
    def rows():
        yield 1

    pipeline("p").block(rows)


def behind(**options: Any) -> Callable[[], Any]:
    """Declare a block behind another one, wrongly."""

    def wrong() -> None:
        p = pipeline("p")
        p.block(id="load")(lambda: 0)
        p.block(id="count", **options)(lambda load: 0)
        p.graph()

    return wrong


def call_back(on: Any, function: Callable[..., Any] = lambda run: None, **options: Any) -> Callable[[], Any]:
    def wrong() -> None:
        p = pipeline("p")
        p.block(id="load")(lambda: 0)
        p.callback(on, **{"id": "tell", **options})(function)
        p.graph()

    return wrong


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: pipeline(""), "cannot be the id of a pipeline"),
        (lambda: pipeline("-a"), "cannot be the id of a pipeline"),
        (lambda: pipeline("a/b"), "cannot be the id of a pipeline"),
        (lambda: pipeline("a\n"), "cannot be the id of a pipeline"),
        (lambda: pipeline("a" * 201), "cannot be the id of a pipeline"),
        (lambda: pipeline("p", max_active_runs=0), "max_active_runs is 0"),
        (lambda: pipeline("p", params=int), "must be a msgspec Struct"),
        (lambda: pipeline("p", params=msgspec.defstruct("P", [("a", object())])), "cannot become a JSON Schema"),
        (lambda: pipeline("p").graph(), "pipeline 'p' has no blocks"),
        (declare(), "block '<lambda>': the id is not allowed"),
        (declare(id="run"), "cannot be named `run`"),
        (declare(id="a", retries=-1), "retries is -1"),
        (declare(id="a", retry_delay=-1), "retry_delay is -1"),
        (declare(id="a", retry_delay=math.nan), "retry_delay is nan"),
        (declare(id="a", timeout=0), "timeout is 0"),
        (declare(id="a", timeout=math.inf), "timeout is inf"),
        (twice, "pipeline 'p', block 'a': there is already a block"),
        (cycle, "pipeline 'p' has a cycle: "),
        (itself, "pipeline 'p' has a cycle: a -> a"),
        (
            unknown,
            "pipeline 'p', block 'count': parameter 'laod' is neither `run` nor a block nor has a default; "
            "blocks are load, count",
        ),
        (lambda: pipeline("p", queue="GPU"), "pipeline 'p': queue is 'GPU': use lower-case letters"),
        (lambda: pipeline("p", timeout=0), "pipeline 'p': timeout is 0, it must be more than 0 seconds"),
        (behind(queue=""), "pipeline 'p', block 'count': queue is '': use lower-case letters"),
        (behind(after="load"), "block 'count': after is 'load', but it is a list of names: after=[\"load\"]"),
        (behind(after=3), "block 'count': after is 3, but it is a list of names"),
        (behind(after=["laod"]), "block 'count': after names 'laod', which is no block; blocks are load, count"),
        (behind(after=["count"]), "pipeline 'p' has a cycle: count -> count"),
        (
            behind(trigger_rule="always"),
            "trigger_rule is 'always', it must be one of all_success, all_done, one_failed",
        ),
        (declare_and_graph(trigger_rule="one_failed"), "no block stands before it that could fail; use `after`"),
        (behind(map="laod"), "map is 'laod', which must be a parameter that is named like a block"),
        (behind(reads="orders"), "reads is 'orders', but it is a list of names"),
        (behind(writes=[""]), "writes has '', but a name is printable text of 1 to 500"),
        (behind(writes=["a\n"]), "writes has 'a\\n', but a name is printable text"),
        (
            call_back("sucess"),
            "pipeline 'p', callback: its event is 'sucess', it must be one of success, failure, cancel",
        ),
        (lambda: pipeline("p").callback(print), "callback: its event is <built-in function print>, it must be one of"),
        (call_back("failure", block="laod"), "callback 'tell': there is no block 'laod'; blocks are load"),
        (call_back("failure", id="load"), "callback 'load': there is already a block with this id"),
        (call_back("failure", lambda load: 0), "callback 'tell': parameter 'load' is neither `run` nor has a default"),
        (call_back("failure", timeout=0), "callback 'tell': timeout is 0"),
        (positional, "parameter 'load' is positional-only"),
        (generator, "block 'rows': it yields"),
    ],
)
def test_a_wrong_definition_says_what_is_wrong(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(Invalid, match=re.escape(message)):
        wrong()
