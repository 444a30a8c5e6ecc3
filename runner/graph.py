"""A pipeline as its author declares it: blocks, the order that their parameters imply, and what is wrong with it."""

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from graphlib import CycleError, TopologicalSorter
from typing import Any, Generic, TypeVar, cast, get_origin, overload

import msgspec

from runner.context import Run
from schemas.errors import Invalid
from schemas.pipelines import DEFAULT_QUEUE, Block, Graph

P = TypeVar("P")
F = TypeVar("F", bound=Callable[..., Any])

RUN = "run"
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_ID_RULE = "use letters, digits, `_`, `.` and `-`, at most 200, not starting with `.` or `-`"
_OBJECT_TYPES = (msgspec.inspect.StructType, msgspec.inspect.TypedDictType, msgspec.inspect.DataclassType)
_collected: ContextVar[list["Pipeline[Any]"] | None] = ContextVar("collected", default=None)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A block with its function; `inputs` maps a parameter to a block, `run_parameters` receive the Run."""

    block: Block
    function: Callable[..., Any]
    inputs: dict[str, str]
    run_parameters: tuple[str, ...]


class _Declared(msgspec.Struct, frozen=True, kw_only=True):
    function: Callable[..., Any]
    retries: int
    retry_delay: float
    timeout: float | None
    queue: str | None


class Pipeline(Generic[P]):
    """A DAG of blocks. Make one with `pipeline(...)`, then decorate functions with `block`."""

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
        if not _ID.fullmatch(id):
            raise Invalid(f"{id!r} cannot be the id of a pipeline: {_ID_RULE}")
        if max_active_runs is not None and max_active_runs < 1:
            raise Invalid(f"pipeline {id!r}: max_active_runs is {max_active_runs}, it must be at least 1")
        self.id = id
        self.max_active_runs = max_active_runs
        self.queue = queue
        self.timeout = timeout
        self.doc = doc
        self.file = file
        self.params_schema = None if params is None else _schema(id, params)
        self._params = None if params is None else msgspec.json.Decoder(params)
        self._declared: dict[str, _Declared] = {}

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
        queue: str | None = None,
    ) -> Callable[[F], F]: ...
    def block(
        self,
        function: F | None = None,
        /,
        *,
        id: str | None = None,  # noqa: A002  (the word that users know from the API)
        retries: int = 0,
        retry_delay: float = 1.0,
        timeout: float | None = None,
        queue: str | None = None,
    ) -> F | Callable[[F], F]:
        """Declare a function, sync or async, as a block of this pipeline and return it unchanged.

        A parameter named like another block receives that block's output as plain data. `id` is the function's name
        unless given; times are seconds. Raises Invalid.
        """

        def declare(function: F) -> F:
            block_id = getattr(function, "__name__", "") if id is None else id
            declared = _Declared(
                function=function, retries=retries, retry_delay=retry_delay, timeout=timeout, queue=queue
            )
            self._declare(block_id, declared)
            return function

        return declare if function is None else declare(function)

    def steps(self) -> dict[str, Step]:
        """Resolve every parameter and return the steps by block id, each after its upstream. Raises Invalid."""
        if not self._declared:
            raise Invalid(f"pipeline {self.id!r} has no blocks")
        steps = {block_id: self._resolve(block_id, declared) for block_id, declared in self._declared.items()}
        try:
            order = list(TopologicalSorter({key: step.block.upstream for key, step in steps.items()}).static_order())
        except CycleError as error:
            raise Invalid(f"pipeline {self.id!r} has a cycle: {' -> '.join(error.args[1])}") from None
        return {block_id: steps[block_id] for block_id in order}

    def graph(self) -> Graph:
        """Return the published form of the blocks. Raises Invalid."""
        return Graph(tuple(step.block for step in self.steps().values()))

    def read_params(self, variables: bytes) -> P:
        """Convert a run's variables (a JSON object) to the declared type. Raises msgspec.MsgspecError."""
        return cast(P, None) if self._params is None else self._params.decode(variables)

    def _declare(self, block_id: str, declared: _Declared) -> None:
        where = f"pipeline {self.id!r}, block {block_id!r}"
        if not _ID.fullmatch(block_id):
            raise Invalid(f"{where}: the id is not allowed: {_ID_RULE}")
        if block_id == RUN:
            raise Invalid(f"{where}: a block cannot be named `run`, that parameter receives the Run")
        if block_id in self._declared:
            raise Invalid(f"{where}: there is already a block with this id")
        if declared.retries < 0:
            raise Invalid(f"{where}: retries is {declared.retries}, it must not be negative")
        if not 0 <= declared.retry_delay < math.inf:
            raise Invalid(f"{where}: retry_delay is {declared.retry_delay}, it must not be negative")
        if declared.timeout is not None and not 0 < declared.timeout < math.inf:
            raise Invalid(f"{where}: timeout is {declared.timeout}, it must be more than 0 seconds")
        if inspect.isgeneratorfunction(declared.function) or inspect.isasyncgenfunction(declared.function):
            raise Invalid(f"{where}: it yields, but the output of a block is what it returns; return a list")
        self._declared[block_id] = declared

    def _resolve(self, block_id: str, declared: _Declared) -> Step:
        inputs: dict[str, str] = {}
        run_parameters = []
        for parameter in _signature(declared.function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if parameter.kind is not parameter.POSITIONAL_ONLY and _takes_run(parameter):
                run_parameters.append(parameter.name)
            elif parameter.kind is not parameter.POSITIONAL_ONLY and parameter.name in self._declared:
                inputs[parameter.name] = parameter.name
            elif parameter.default is parameter.empty:
                raise Invalid(self._unknown_parameter(block_id, parameter), function=declared.function)
        block = Block(
            id=block_id,
            upstream=tuple(inputs.values()),
            retries=declared.retries,
            retry_delay=declared.retry_delay,
            timeout=declared.timeout,
            queue=declared.queue,
            doc=inspect.getdoc(declared.function) or "",
        )
        return Step(block=block, function=declared.function, inputs=inputs, run_parameters=tuple(run_parameters))

    def _unknown_parameter(self, block_id: str, parameter: inspect.Parameter) -> str:
        where = f"pipeline {self.id!r}, block {block_id!r}: parameter {parameter.name!r}"
        if parameter.kind is parameter.POSITIONAL_ONLY:
            return f"{where} is positional-only, but blocks are called with keywords"
        return f"{where} is neither `run` nor a block nor has a default; blocks are {', '.join(self._declared)}"


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
    are taken and `run.params` is None. `max_active_runs` lets the rest wait as queued. `doc` is the module's docstring
    unless given. Raises Invalid.
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
