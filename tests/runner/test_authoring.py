"""What a pipeline author writes, and what they can do with it without Penstock."""

import hashlib
import logging
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner import Branch, Run, Skip, loader, pipeline
from runner.context import EventBody
from runner.modules import PipelineFiles
from schemas.payload import Kind
from tests.pages import blocks


class Params(msgspec.Struct):
    region: str = "us-east-1"


orders = pipeline("customer_orders_daily", params=Params, max_active_runs=4)


@orders.block(retries=3, timeout=60)
async def load(run: Run[Params]) -> list[dict]:
    run.log.info("loading", region=run.params.region, ref=run.event_variables.get("ref"))
    return [{"id": 1}]


@orders.block
def transform(load: list[dict]) -> list[dict]:
    return [row | {"ok": True} for row in load]


async def test_decorated_functions_stay_plain_functions() -> None:
    run = Run(params=Params(region="eu"), event_variables={"ref": "main"})
    assert await load(run) == [{"id": 1}]
    assert transform([{"id": 7}]) == [{"id": 7, "ok": True}]
    assert transform.__name__ == "transform"


def test_a_run_made_by_hand_has_every_default() -> None:
    run = Run(params=Params())
    assert run.params.region == "us-east-1"
    assert run.variables == {}
    assert run.event_variables is None
    assert (run.number, run.attempt, run.logical_date, run.schedule_id, run.event_id) == (1, 1, None, None, None)
    assert run.idempotency_key == f"{run.id}:block"


def test_the_idempotency_key_is_the_same_in_every_attempt() -> None:
    run_id = uuid.uuid4()
    first, second = (Run(id=run_id, block_id="load", attempt=attempt) for attempt in (1, 2))
    assert first.idempotency_key == second.idempotency_key == f"{run_id}:load"


def test_each_item_of_a_mapped_block_has_an_idempotency_key_of_its_own() -> None:
    run_id = uuid.uuid4()
    assert Run(id=run_id, block_id="load", map_index=0).idempotency_key == f"{run_id}:load:0"


def test_what_a_block_decides_is_a_value_that_tests_compare() -> None:
    assert Branch("big", value=[1]) == Branch("big", value=[1])
    assert Branch("big") != Branch("big", "small")
    assert repr(Branch("big", value=[1])) == "Branch('big', value=[1])"
    assert Skip("no rows") == Skip("no rows")


def test_the_log_of_a_run_made_by_hand_goes_to_the_standard_library(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="penstock.pipeline"):
        log = Run().log
        log.debug("100 %s")
        log.info("loaded", rows=3)
        log.warning("slow")
        log.error("wrong")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "100 %s"),
        ("INFO", "loaded {'rows': 3}"),
        ("WARNING", "slow"),
        ("ERROR", "wrong"),
    ]


def test_a_field_may_have_the_name_of_any_argument(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="penstock.pipeline"):
        Run().log.info("text", message="field", self="field")
    assert caplog.messages == ["text {'message': 'field', 'self': 'field'}"]


def test_event_variables_are_decoded_when_they_are_first_read() -> None:
    run = Run(event_variables=EventBody(kind=Kind.FORM, body=b"a=1&a=2&b=", content_type="", url=""))
    assert run.event_variables == {"a": ["1", "2"], "b": ""}
    assert run.event_variables is run.event_variables


@pytest.mark.parametrize(
    ("event_variables", "read", "sent"),
    [
        ({"a": [1, "ü"]}, {"a": [1, "ü"]}, '{"a":[1,"ü"]}'.encode()),
        ("text", "text", b"text"),
        (b"\0\xff", b"\0\xff", b"\0\xff"),
        (None, None, b""),
        (EventBody(kind=Kind.FORM, body=b"a=1"), {"a": "1"}, b"a=1"),
        (EventBody(kind=Kind.BINARY, body=b"\xff"), b"\xff", b"\xff"),
        (EventBody(kind=Kind.EMPTY, body=b""), None, b""),
    ],
)
def test_an_event_is_read_by_the_same_call_in_a_unit_test(event_variables: Any, read: Any, sent: bytes) -> None:
    run: Run[None] = Run(event_variables=event_variables)

    assert (run.read_event(), run.read_event_bytes()) == (read, sent)


def test_a_large_event_is_described_and_fetched_when_it_is_read() -> None:
    fetched = []

    def fetch(event: EventBody) -> bytes:
        fetched.append(event.object)
        return b"[1, 2]"

    large = EventBody(kind=Kind.JSON, body=b"", content_type="x/y", url="u", object="events/1", size=6, sha256="ab")
    run: Run[None] = Run(event_variables=large, fetch=fetch)

    assert run.event_variables == {"content_type": "x/y", "size": 6, "sha256": "ab", "url": "u"}
    assert fetched == []
    assert (run.read_event(), run.read_event_bytes()) == ([1, 2], b"[1, 2]")
    assert fetched == ["events/1", "events/1"]


def test_importing_the_authoring_api_loads_nothing_heavy() -> None:
    script = "import runner, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True).stdout
    assert not {"litestar", "asyncpg", "arq", "structlog", "asyncio", "rich_click"} & set(loaded.split())


def test_the_example_of_the_docstring_type_checks(tmp_path) -> None:
    import runner

    source = "\n".join(line for line in runner.__doc__.splitlines() if line.startswith("    "))
    (tmp_path / "example.py").write_text(textwrap.dedent(source))
    options = ["--config-file=", "--check-untyped-defs", "--cache-dir", str(tmp_path)]
    command = [sys.executable, "-m", "mypy", *options, str(tmp_path / "example.py")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


async def test_the_shapes_of_the_authoring_page_are_what_it_says(tmp_path: Path) -> None:
    [example] = [block for block in blocks("docs/authoring.md") if block.file == "pipelines/parcels.py"]
    (tmp_path / "parcels.py").write_text(example.text)
    [definition] = await loader.load(tmp_path)
    assert definition.error is None
    assert definition.run_timeout_s == 3600

    version = hashlib.sha256(example.text.encode()).hexdigest()
    parcels = PipelineFiles(tmp_path).get("parcels.py", "parcels", version=version)
    assert parcels is not None
    functions = {name: step.function for name, step in parcels.steps.items()}
    run = Run(
        params=msgspec.convert({"many": 1}, type(parcels.pipeline.read_params(b"{}"))), event_variables={"orders": []}
    )
    assert functions["orders"](run) == Skip("no orders today")
    assert functions["route"](run, [{}, {}]) == Branch("courier", value=2)
    assert functions["label"](run, {"id": 7}, None, "stamps") == {"id": 7, "by": "stamps", "key": f"{run.id}:block"}
