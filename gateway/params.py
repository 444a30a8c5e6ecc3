"""Are these variables what the pipeline's params say? Asked before a run exists, by the published JSON Schema."""

from collections.abc import Mapping
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
