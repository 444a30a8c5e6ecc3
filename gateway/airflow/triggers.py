"""What Airflow says of a run id or a conf that it does not take."""

import pprint
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from gateway import params
from gateway.errors import Refused
from schemas.pipelines import Pipeline

_ALLOWED = re.compile(r"^[A-Za-z0-9_.~:+-]+$")
_GENERATED = r"__(?:\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\+00:00)$"
_WIDTH = 72


def check_run_id(run_id: str, reserved: tuple[str, ...]) -> None:
    """Refuse a run id with other characters, or one that begins like those of these types of runs; raises Refused."""
    if not _ALLOWED.fullmatch(run_id):
        patterns = f"'{_ALLOWED.pattern}' or '^(?:manual|scheduled|{reserved[-1]}){_GENERATED}'"
        raise Refused(f"The run_id provided {run_id!r} does not match regex pattern {patterns}")
    for kind in reserved:
        if run_id.startswith(f"{kind}__"):
            raise Refused(f"A manual DAG run cannot use ID {run_id!r} since it is reserved for {kind} runs")


def of_wrong_params(variables: Mapping[str, Any], pipeline: Pipeline) -> Refused | None:
    """Say in Airflow's words what is wrong with a conf, None when nothing is."""
    fault = params.find_fault(variables, pipeline)
    if fault is None:
        return None
    message = f"Invalid input for param {fault.name}: {fault.message}".replace('"', "'")  # as Python writes texts
    if fault.schema is not None:
        schema, given = _block(fault.schema), _block(fault.given)
        message += f"\n\nFailed validating '{fault.rule}' in schema:\n{schema}\n\nOn instance:\n{given}"
    return Refused(message)


def _block(value: Any) -> str:
    return textwrap.indent(pprint.pformat(value, width=_WIDTH, sort_dicts=False), "    ")
