"""What is said of variables that a pipeline does not take, in more detail than its own API needs."""

import datetime as dt
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from gateway.params import Fault, find_fault
from schemas.notify import Notify
from schemas.pipelines import Pipeline
from schemas.states import OnPaused

AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


class Inner(msgspec.Struct):
    a: int


class Params(msgspec.Struct):
    req: str
    n: Annotated[int, Meta(ge=0)] = 1
    items: list[Inner] = []


def pipeline(schema: dict[str, Any] | None) -> Pipeline:
    return Pipeline(
        id="p",
        version="v",
        doc="",
        graph=None,
        params_schema=schema,
        max_active_runs=None,
        queue="default",
        run_timeout_s=None,
        notify=Notify(),
        is_paused=False,
        on_paused=OnPaused.QUEUE,
        file="p.py",
        error=None,
        created_at=AT,
        updated_at=AT,
    )


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"req": "x"}, None),
        ({}, Fault("req", "No value passed", "required", None, None)),
        ({"req": 1}, Fault("req", '1 is not of type "string"', "type", {"type": "string"}, 1)),
        (
            {"req": "x", "n": -1},
            Fault(
                "n",
                "-1 is less than the minimum of 0",
                "minimum",
                {"type": "integer", "minimum": 0, "default": 1},
                -1,
            ),
        ),
        (
            {"req": "x", "items": [{"a": "y"}]},
            Fault("items", '"y" is not of type "integer"', "type", {"type": "integer"}, "y"),
        ),
    ],
)
def test_the_first_fault_is_told_with_its_rule_and_schema(variables: dict[str, Any], fault: Fault | None) -> None:
    assert find_fault(variables, pipeline(msgspec.json.schema(Params))) == fault


def test_a_param_that_is_missing_within_another_is_a_fault_of_that_one() -> None:
    fault = find_fault({"req": "x", "items": [{}]}, pipeline(msgspec.json.schema(Params)))

    assert fault is not None
    assert (fault.name, fault.rule, fault.message) == ("items", "required", '"a" is a required property')


def test_a_pipeline_without_params_takes_everything() -> None:
    assert find_fault({"any": 1}, pipeline(None)) is None
