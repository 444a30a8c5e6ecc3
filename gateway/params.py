"""Are these variables what the pipeline's params say? Asked before a run exists, by the published JSON Schema."""

from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from schemas.errors import FieldError, Invalid
from schemas.pipelines import Pipeline

LONGEST_MESSAGE = 300
MOST_ERRORS = 20


def check(variables: Mapping[str, Any], pipeline: Pipeline) -> None:
    """Compare variables with the params of a pipeline; raises Invalid that points at each wrong one.

    Pointers begin at the request's `variables`, for it is where the caller wrote them.
    """
    if pipeline.params_schema is None:
        return
    found = jsonschema_rs.validator_for(pipeline.params_schema).iter_errors(variables)
    errors = tuple(_describe(error) for error, _ in zip(found, range(MOST_ERRORS), strict=False))
    if errors:
        first = errors[0]
        raise Invalid(
            f"The variables are not what pipeline {pipeline.id} takes: {first.pointer}: {first.message}", errors=errors
        )


def _describe(error: jsonschema_rs.ValidationError) -> FieldError:
    steps = ("variables", *map(str, error.instance_path))
    pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
    return FieldError(pointer, error.message[:LONGEST_MESSAGE])
