"""A pipeline as its author declares it: blocks, the order that their parameters imply, and what is wrong with it."""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from graphlib import CycleError, TopologicalSorter
from typing import Any, Generic, Literal, TypeVar, cast, get_origin, overload

import msgspec

from runner import declarations
from runner.context import Run
from runner.declarations import RUN, Declared, DeclaredBlock, DeclaredCallback
from schemas.errors import Invalid
from schemas.pipelines import DEFAULT_QUEUE, Block, Callback, Graph
from schemas.states import CallbackOn, TriggerRule

P = TypeVar("P")
F = TypeVar("F", bound=Callable[..., Any])
Rule = TriggerRule | Literal["all_success", "all_done", "one_failed", "none_failed"]
On = CallbackOn | Literal["success", "failure", "cancel"]

CALLBACK_TIMEOUT_S = 60.0
_OBJECT_TYPES = (msgspec.inspect.StructType, msgspec.inspect.TypedDictType, msgspec.inspect.DataclassType)
_collected: ContextVar[list["Pipeline[Any]"] | None] = ContextVar("collected", default=None)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A block or callback with its function; `inputs` maps a parameter to a block, `run_parameters` receive the Run."""

    block: Block | Callback
    function: Callable[..., Any]
    inputs: dict[str, str]
    run_parameters: tuple[str, ...]


class Pipeline(Generic[P]):
    """A DAG of blocks. Make one with `pipeline(...)`, then decorate functions with `block` and `callback`."""

    def __init__(
        self,
        id: str,  # noqa: A002  (the word that users know from the API)
        *,
        params: type[P] | None,
        max_active_runs: int | None,
        queue: str,
        timeout: float | None,
        doc: str | None,
        file: str,
    ) -> None:
        declarations.check_pipeline(id, max_active_runs=max_active_runs, queue=queue, timeout=timeout)
        self.id = id
        self.max_active_runs = max_active_runs
        self.queue = queue
        self.timeout = timeout
        self.doc = doc
        self.file = file
        self.params_schema = None if params is None else _schema(id, params)
        self._params = None if params is None else msgspec.json.Decoder(params)
        self._blocks: dict[str, DeclaredBlock] = {}
        self._callbacks: dict[str, DeclaredCallback] = {}

    @overload
    def block(self, function: F, /) -> F: ...
    @overload
    def block(
        self,
        /,
        *,
        id: str | None = None,
        retries: int = 0,
        retry_delay: float = 1.0,
        timeout: float | None = None,
        after: Iterable[str] = (),
        trigger_rule: Rule = TriggerRule.ALL_SUCCESS,
        map: str | None = None,
        queue: str | None = None,
        reads: Iterable[str] = (),
        writes: Iterable[str] = (),
    ) -> Callable[[F], F]:
        """Declare with options."""

    def block(
        self,
        function: F | None = None,
        /,
        *,
        id: str | None = None,  # noqa: A002  (the word that users know from the API)
        retries: int = 0,
        retry_delay: float = 1.0,
        timeout: float | None = None,
        after: Iterable[str] = (),
        trigger_rule: Rule = TriggerRule.ALL_SUCCESS,
        map: str | None = None,  # noqa: A002  (the word that users know from the API)
        queue: str | None = None,
        reads: Iterable[str] = (),
        writes: Iterable[str] = (),
    ) -> F | Callable[[F], F]:
        """Declare a function, sync or async, as a block of this pipeline and return it unchanged.

        A parameter named like another block receives that block's output as plain data; `after` names blocks to wait
        for besides. `map` names the parameter that receives one item of its block's list: the block is executed once
        for each. `id` is the function's name unless given; times are seconds; `queue` is the pipeline's unless given;
        `reads` and `writes` name datasets. Raises Invalid.
        """

        def declare(function: F) -> F:
            block_id = _name(function) if id is None else id
            where = f"pipeline {self.id!r}, block {block_id!r}"
            declared = DeclaredBlock(
                function=function,
                retries=retries,
                retry_delay=retry_delay,
                timeout=timeout,
                after=declarations.names(where, "after", after),
                trigger_rule=declarations.choice(where, "trigger_rule", trigger_rule, TriggerRule),
                map=map,
                queue=queue,
                reads=declarations.names(where, "reads", reads),
                writes=declarations.names(where, "writes", writes),
            )
            self._declare(where, block_id, declared, queue)
            return function

        return declare if function is None else declare(function)

    def callback(
        self,
        on: On,
        /,
        *,
        block: str | Iterable[str] | None = None,
        id: str | None = None,  # noqa: A002  (the word that users know from the API)
        retries: int = 0,
        retry_delay: float = 1.0,
        timeout: float | None = CALLBACK_TIMEOUT_S,
    ) -> Callable[[F], F]:
        """Declare a function that is called at each `success`, `failure` or `cancel` of the run, or of some blocks.

        It takes the run, with `run.state` and `run.error` of what has ended, and changes neither. With several blocks
        it is called for each of them, as `function.block`. Raises Invalid.
        """

        chosen = declarations.choice(f"pipeline {self.id!r}, callback", "its event", on, CallbackOn)

        def declare(function: F) -> F:
            callback_id = _name(function) if id is None else id
            where = f"pipeline {self.id!r}, callback {callback_id!r}"
            blocks = (block,) if isinstance(block, str) else declarations.names(where, "block", block or ())
            for subject in blocks or (None,):
                declared = DeclaredCallback(
                    function=function,
                    retries=retries,
                    retry_delay=retry_delay,
                    timeout=timeout,
                    on=chosen,
                    block=subject,
                )
                self._declare(where, f"{callback_id}.{subject}" if len(blocks) > 1 else callback_id, declared)
            return function

        return declare

    def steps(self) -> dict[str, Step]:
        """Resolve every parameter and return the steps by id: blocks, each after its upstream, then callbacks.

        Raises Invalid.
        """
        if not self._blocks:
            raise Invalid(f"pipeline {self.id!r} has no blocks")
        blocks = {block_id: self._resolve(block_id, declared) for block_id, declared in self._blocks.items()}
        upstream = {block_id: step.block.upstream for block_id, step in blocks.items() if isinstance(step.block, Block)}
        try:
            order = list(TopologicalSorter(upstream).static_order())
        except CycleError as error:
            raise Invalid(f"pipeline {self.id!r} has a cycle: {' -> '.join(error.args[1])}") from None
        callbacks = {name: self._resolve_callback(name, declared) for name, declared in self._callbacks.items()}
        return {block_id: blocks[block_id] for block_id in order} | callbacks

    def graph(self) -> Graph:
        """Return the published form of the blocks and callbacks. Raises Invalid."""
        published = [step.block for step in self.steps().values()]
        return Graph(
            tuple(block for block in published if isinstance(block, Block)),
            tuple(callback for callback in published if isinstance(callback, Callback)),
        )

    def read_params(self, variables: bytes) -> P:
        """Convert a run's variables (a JSON object) to the declared type. Raises msgspec.MsgspecError."""
        return cast(P, None) if self._params is None else self._params.decode(variables)

    def _declare(
        self, where: str, function_id: str, declared: DeclaredBlock | DeclaredCallback, queue: str | None = None
    ) -> None:
        declarations.check_id(where, function_id)
        if function_id in self._blocks or function_id in self._callbacks:
            raise Invalid(f"{where}: there is already a block with this id")
        declarations.check(where, declared)
        if queue is not None:
            declarations.check_queue(where, queue)
        if isinstance(declared, DeclaredBlock):
            self._blocks[function_id] = declared
        else:
            self._callbacks[function_id] = declared

    def _resolve(self, block_id: str, declared: DeclaredBlock) -> Step:
        inputs, run_parameters = self._parameters(f"block {block_id!r}", declared, self._blocks)
        self._check_order(block_id, declared, inputs)
        after = tuple(name for name in declared.after if name not in inputs)
        block = Block(
            upstream=(*inputs, *after),
            after=after,
            **{name: getattr(declared, name) for name in ("trigger_rule", "map", "queue", "reads", "writes")},
            **_published(block_id, declared),
        )
        return Step(block=block, function=declared.function, inputs=inputs, run_parameters=run_parameters)

    def _resolve_callback(self, callback_id: str, declared: DeclaredCallback) -> Step:
        _, run_parameters = self._parameters(f"callback {callback_id!r}", declared, {})
        if declared.block is not None and declared.block not in self._blocks:
            raise Invalid(
                f"pipeline {self.id!r}, callback {callback_id!r}: there is no block {declared.block!r}; "
                f"blocks are {', '.join(self._blocks)}",
                function=declared.function,
            )
        callback = Callback(on=declared.on, block=declared.block, **_published(callback_id, declared))
        return Step(block=callback, function=declared.function, inputs={}, run_parameters=run_parameters)

    def _check_order(self, block_id: str, declared: DeclaredBlock, inputs: dict[str, str]) -> None:
        where = f"pipeline {self.id!r}, block {block_id!r}"
        unknown = next((name for name in declared.after if name not in self._blocks), None)
        if unknown is not None:
            problem = f"after names {unknown!r}, which is no block; blocks are {', '.join(self._blocks)}"
        elif declared.map is not None and declared.map not in inputs:
            problem = f"map is {declared.map!r}, which must be a parameter that is named like a block"
        elif declared.trigger_rule is TriggerRule.ONE_FAILED and not (inputs or declared.after):
            problem = "trigger_rule is one_failed, but no block stands before it that could fail; use `after`"
        else:
            return
        raise Invalid(f"{where}: {problem}", function=declared.function)

    def _parameters(
        self, what: str, declared: Declared, blocks: dict[str, DeclaredBlock]
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Say which parameters receive the output of which block, and which the run."""
        inputs: dict[str, str] = {}
        run_parameters = []
        for parameter in _signature(declared.function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if parameter.kind is not parameter.POSITIONAL_ONLY and _takes_run(parameter):
                run_parameters.append(parameter.name)
            elif parameter.kind is not parameter.POSITIONAL_ONLY and parameter.name in blocks:
                inputs[parameter.name] = parameter.name
            elif parameter.default is parameter.empty:
                where = f"pipeline {self.id!r}, {what}: parameter {parameter.name!r}"
                raise Invalid(f"{where} {_unknown(parameter, blocks)}", function=declared.function)
        return inputs, tuple(run_parameters)


def pipeline(
    id: str,  # noqa: A002  (the word that users know from the API)
    *,
    params: type[P] | None = None,
    max_active_runs: int | None = None,
    queue: str = DEFAULT_QUEUE,
    timeout: float | None = None,
    doc: str | None = None,
) -> Pipeline[P]:
    """Declare a pipeline in this file.

    `params` is a msgspec Struct, a dataclass or a TypedDict that a run's variables must fit; without it any variables
    are taken and `run.params` is None. `max_active_runs` lets the rest wait as queued. `queue` names the runners that
    may take its runs, `timeout` is in seconds for a whole run. `doc` is the module's docstring unless given. Raises
    Invalid.
    """
    file = sys._getframe(1).f_globals.get("__file__", "")
    declared = Pipeline(
        id, params=params, max_active_runs=max_active_runs, queue=queue, timeout=timeout, doc=doc, file=file
    )
    collected = _collected.get()
    if collected is not None:
        collected.append(declared)
    return declared


@contextmanager
def collecting() -> Iterator[list[Pipeline[Any]]]:
    """Collect every pipeline that is declared inside, in order."""
    collected: list[Pipeline[Any]] = []
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", ""))


def _published(function_id: str, declared: Declared) -> dict[str, Any]:
    return {
        "id": function_id,
        "retries": declared.retries,
        "retry_delay": declared.retry_delay,
        "timeout": declared.timeout,
        "doc": inspect.getdoc(declared.function) or "",
    }


def _unknown(parameter: inspect.Parameter, blocks: dict[str, DeclaredBlock]) -> str:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return "is positional-only, but blocks are called with keywords"
    if not blocks:
        return "is neither `run` nor has a default; a callback receives the run alone"
    return f"is neither `run` nor a block nor has a default; blocks are {', '.join(blocks)}"


def _schema(pipeline_id: str, params: type[Any]) -> dict[str, Any]:
    try:
        is_object = isinstance(msgspec.inspect.type_info(params), _OBJECT_TYPES)
        schema = msgspec.json.schema(params)
    except (TypeError, NameError) as error:
        raise Invalid(f"pipeline {pipeline_id!r}: its params cannot become a JSON Schema: {error}") from None
    if not is_object:
        raise Invalid(f"pipeline {pipeline_id!r}: its params must be a msgspec Struct, a dataclass or a TypedDict")
    return schema


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # noqa: BLE001  (evaluating an annotation may raise anything; only names are needed then)
        return inspect.signature(function)


def _takes_run(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return parameter.name == RUN or annotation.partition("[")[0].rpartition(".")[2] == Run.__name__
    return parameter.name == RUN or annotation is Run or get_origin(annotation) is Run
