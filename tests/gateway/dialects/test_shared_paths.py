"""Two products that share a path: each answers in its own shape, and neither may claim what the other has."""

from collections.abc import Iterator

import pytest
from litestar import Litestar, Response, get, post
from litestar.params import FromPath
from litestar.testing import TestClient

from gateway.dialects import Dialect, envelopes, routers
from gateway.errors import Envelope, Problem, Refused, exception_handlers
from schemas.errors import NotFound


def envelope(name: str) -> Envelope:
    return lambda problem: Response(f"{name}: {_word(problem)}".encode(), status_code=problem.status)


def _word(problem: Problem) -> str:
    return str(problem.extra.get("word", problem.code))


@post("/api/runs", sync_to_thread=False)
def start() -> None:
    raise Refused(status=409, word="busy")


@get("/api/runs/{run_id:str}", sync_to_thread=False)
def read(run_id: FromPath[str]) -> None:
    raise NotFound(run_id)


@get("/api/pipelines/{uuid:str}/schedules", sync_to_thread=False)
def schedules(uuid: FromPath[str]) -> None:
    raise NotFound(uuid)


@post("/api/pipelines/{pipeline_id:str}/run", sync_to_thread=False)
def run(pipeline_id: FromPath[str]) -> None:
    raise NotFound(pipeline_id)


MAGE = Dialect(
    name="mage",
    title="Mage",
    handlers=(start, schedules),
    envelopes={"/api/pipelines/{id}/schedules": envelope("mage"), "/api": envelope("mage")},
)
BROKOLI = Dialect(
    name="brokoli",
    title="Brokoli",
    handlers=(read, run),
    envelopes={"/api/runs": envelope("brokoli"), "/api/pipelines": envelope("brokoli")},
)


@pytest.fixture(params=[(MAGE, BROKOLI), (BROKOLI, MAGE)], ids=["mage first", "brokoli first"])
def client(request: pytest.FixtureRequest) -> Iterator[TestClient[Litestar]]:
    app = Litestar(
        routers(request.param),
        exception_handlers=exception_handlers(envelopes(request.param)),
        logging_config=None,
        openapi_config=None,
    )
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("POST", "/api/runs", 409, "mage: busy"),
        ("GET", "/api/runs/7", 404, "brokoli: not_found"),
        ("GET", "/api/pipelines/7/schedules", 404, "mage: not_found"),
        ("POST", "/api/pipelines/7/run", 404, "brokoli: not_found"),
        ("DELETE", "/api/runs", 405, "brokoli: method_not_allowed"),
        ("POST", "/api/pipelines/7/schedules", 405, "mage: method_not_allowed"),
        ("GET", "/api/pipelines/7/run", 405, "brokoli: method_not_allowed"),
        ("GET", "/api/nothing", 404, "mage: not_found"),
    ],
)
def test_each_answers_in_its_own_shape(
    method: str, path: str, status: int, text: str, client: TestClient[Litestar]
) -> None:
    answer = client.request(method, path)

    assert (answer.status_code, answer.text) == (status, text)


def test_what_one_has_claimed_no_other_may() -> None:
    with pytest.raises(
        ValueError, match=r"^Dialect mage claims /api, /api/pipelines/.id./schedules, as another one does"
    ):
        envelopes([MAGE, BROKOLI, MAGE])
