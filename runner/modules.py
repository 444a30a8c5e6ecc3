"""Users' files inside a block host: load one by path under a private name, keep it, say what it defines."""

import hashlib
import inspect
import re
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from runner.graph import Pipeline, Step, collecting
from runner.tracebacks import relative_place
from schemas.errors import Invalid
from schemas.pipelines import Definition


class LoadedPipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline that can be executed: its steps by block id."""

    pipeline: Pipeline[Any]
    steps: dict[str, Step]


class LoadedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was executed once; `version` is the SHA-256 of exactly the bytes that were."""

    path: str
    version: str
    doc: str
    pipelines: tuple[Pipeline[Any], ...]


class PipelineFiles:
    """The files of one pipelines directory, each loaded when it is first needed and again when it has changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, LoadedFile] = {}
        self._pipelines: dict[tuple[str, str], LoadedPipeline] = {}

    def get(self, path: str, pipeline_id: str, *, version: str) -> LoadedPipeline | None:
        """Return a pipeline of the file as it is on disk now; an older `version` is not kept.

        Returns None when the file does not define it any more; raises whatever the file raises.
        """
        file = self._files.get(path)
        if file is None or file.version != version:
            self._load(path, seen=file)
        return self._pipelines.get((path, pipeline_id))

    def describe(self, path: str) -> tuple[Definition, ...]:
        """Return the definitions in a file; raises whatever the file raises, Invalid when it defines nothing."""
        file = self._execute(path, (self._directory / path).read_bytes())
        if not file.pipelines:
            raise Invalid("it defines no pipeline; put `_` before the name of a file of shared code")
        return tuple(self._define(file, pipeline) for pipeline in file.pipelines)

    def _load(self, path: str, *, seen: LoadedFile | None) -> None:
        source = (self._directory / path).read_bytes()
        if seen is not None and seen.version == _version(source):
            return
        file = self._execute(path, source)
        for key in [key for key in self._pipelines if key[0] == path]:
            del self._pipelines[key]
        for pipeline in file.pipelines:
            with suppress(Invalid):  # reported when the file was described; its neighbours work
                self._pipelines[path, pipeline.id] = LoadedPipeline(pipeline=pipeline, steps=pipeline.steps())
        self._files[path] = file

    def _execute(self, path: str, source: bytes) -> LoadedFile:
        full_path = str(self._directory / path)
        module = ModuleType("_penstock_" + re.sub(r"\W", "_", path))
        module.__file__ = full_path
        sys.modules[module.__name__] = module
        with collecting() as collected:
            exec(compile(source, full_path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  (our purpose)
        return LoadedFile(
            path=path,
            version=_version(source),
            doc=inspect.cleandoc(module.__doc__ or ""),
            pipelines=tuple(pipeline for pipeline in collected if not self._is_of_another_file(pipeline, full_path)),
        )

    def _is_of_another_file(self, pipeline: Pipeline[Any], full_path: str) -> bool:
        """Tell whether a pipeline came in because the file imported another pipeline file."""
        file = Path(pipeline.file)
        return pipeline.file != full_path and file.parent == self._directory and not file.name.startswith("_")

    def _define(self, file: LoadedFile, pipeline: Pipeline[Any]) -> Definition:
        definition = Definition(
            id=pipeline.id,
            path=file.path,
            version=file.version,
            params_schema=pipeline.params_schema,
            doc=file.doc if pipeline.doc is None else pipeline.doc,
            max_active_runs=pipeline.max_active_runs,
            queue=pipeline.queue,
            run_timeout_s=pipeline.timeout,
        )
        try:
            return msgspec.structs.replace(definition, graph=pipeline.graph())
        except Invalid as error:
            return msgspec.structs.replace(definition, error=self._place(error, file.path) + error.message)

    def _place(self, error: Invalid, path: str) -> str:
        code = getattr(inspect.unwrap(error.extra["function"]), "__code__", None) if "function" in error.extra else None
        return f"{path}: " if code is None else relative_place(code, self._directory)


def _version(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()
