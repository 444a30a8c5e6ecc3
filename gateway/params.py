"""Are these variables what the pipeline's params say? Asked before a run exists, by the published JSON Schema."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

from schemas.errors import FieldError, Invalid
from schemas.pipelines import Pipeline

LONGEST_MESSAGE = 300
MOST_ERRORS = 20


def check(variables: Mapping[str, Any], pipeline: Pipeline) -> None:
    """Compare variables with the params of a pipeline; raises Invalid that points at each wrong one.

    Pointers begin at the request's `variables`, for it is where the caller wrote them.
    """
    if errors := find_errors(variables, pipeline.params_schema):
        first = errors[0]
        raise Invalid(
            f"The variables are not what pipeline {pipeline.id} takes: {first.pointer}: {first.message}", errors=errors
        )


class Fault(msgspec.Struct, frozen=True):
    """The first thing wrong with variables: of which variable, by which rule of which schema; a name is "" for all."""

    name: str
    message: str
    rule: str
    schema: Any
    given: Any


def find_fault(variables: Mapping[str, Any], pipeline: Pipeline) -> Fault | None:
    """Find what `check` refuses, in more detail, for products that tell it."""
    if pipeline.params_schema is None:
        return None
    error = next(_validator(msgspec.json.encode(pipeline.params_schema)).iter_errors(variables), None)
    if error is None:
        return None
    *path, rule = error.schema_path
    schema = _schema_at(pipeline.params_schema, path)
    if rule == "required" and not error.instance_path and schema is not None:
        missing = next((name for name in schema["required"] if name not in variables), "")
        return Fault(missing, "No value passed", rule, None, None)
    name = str(error.instance_path[0]) if error.instance_path else ""
    return Fault(name, error.message[:LONGEST_MESSAGE], str(rule), schema, error.instance)


def _schema_at(schema: Any, path: Iterable[str | int]) -> Any:
    """Follow the steps to a part of a schema; None when they lead nowhere."""
    for step in path:
        try:
            schema = schema[step]
        except (KeyError, IndexError, TypeError):
            return None
    return schema


def find_errors(variables: Mapping[str, Any], schema: Mapping[str, Any] | None) -> tuple[FieldError, ...]:
    """Compare variables with a JSON Schema, if there is one; no error means that they fit."""
    if schema is None:
        return ()
    found = _validator(msgspec.json.encode(schema)).iter_errors(variables)
    return tuple(_describe(error) for error, _ in zip(found, range(MOST_ERRORS), strict=False))


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    return jsonschema_rs.validator_for(msgspec.json.decode(schema))


def _describe(error: jsonschema_rs.ValidationError) -> FieldError:
    steps = ("variables", *map(str, error.instance_path))
    pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
    return FieldError(pointer, error.message[:LONGEST_MESSAGE])
