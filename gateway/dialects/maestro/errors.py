"""Maestro's errors, in its three shapes: what its platform refuses, what its gateway refuses, and its faults."""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response

from gateway.errors import Problem, Refused


def envelope(problem: Problem) -> Response[bytes]:
    """Answer `{"detail": {...}}` with an exception_type, `{"detail": "..."}` without, `{"msg": "..."}` from 500 on."""
    content = msgspec.json.encode(_body(problem))
    headers = dict(problem.headers)
    return Response(content, status_code=problem.status, media_type="application/json", headers=headers)


def _body(problem: Problem) -> dict[str, Any]:
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return {"msg": problem.detail}
    if kind := problem.extra.get("exception_type"):
        return {"detail": {"status": False, "exception_type": kind, "traceback": problem.detail, "data": None}}
    if problem.errors:
        return {"detail": "; ".join(f"{error.pointer or '/'}: {error.message}" for error in problem.errors)}
    return {"detail": problem.detail}


def not_found(pipeline_id: str) -> Refused:
    """Say that there is no pipeline with this (underscored) id."""
    return Refused(f"Pipeline with id {pipeline_id} not found", status=404, exception_type="PipelineNotFound")


def run_not_found(run_id: str) -> Refused:
    """Say that a pipeline has no such run."""
    return Refused(f"Pipeline run with id {run_id} not found", status=404, exception_type="PipelineRunNotFound")


def not_found_to_patch(pipeline_id: str) -> Refused:
    """Say the same as `not_found`, in the shape that PATCH has for it."""
    return Refused(f"pipeline_id {pipeline_id} not found", status=404)


def paused() -> Refused:
    """Say that a paused pipeline executes nothing."""
    return Refused("Cannot execute paused pipeline. Use /pipeline/unpause first.", exception_type="PipelinePaused")


def already_paused() -> Refused:
    """Say that there is nothing to pause."""
    return Refused("Pipeline is already paused", exception_type="PipelineAlreadyPaused")


def not_paused() -> Refused:
    """Say that there is nothing to unpause."""
    return Refused("Pipeline is not paused", exception_type="PipelineNotPaused")


def missing_id() -> Refused:
    """Say that the body names no pipeline."""
    return Refused("pipeline_id is required")


def read_only(name: str) -> Refused:
    """Say that PATCH does not change this property."""
    return Refused(f"Property {name} is read only")
