import io
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from litestar import Litestar, Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.testing import TestClient

from gateway.errors import (
    ClientGone,
    Problem,
    Refused,
    UnsupportedMedia,
    describe_error,
    envelope_for,
    exception_handlers,
    problem_json,
)
from schemas import errors
from tests.captured_logs import captured_logs

TOKEN = "pst_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2W3x4Y"


class Unmapped(errors.Conflict):
    """A later kind of conflict."""

    code = "unmapped"


RAISED = {
    "invalid": errors.Invalid(errors=(errors.FieldError("/cron", "Expected `str`"),)),
    "malformed": errors.Malformed(),
    "media": UnsupportedMedia(),
    "unauthenticated": errors.Unauthenticated(),
    "signature": errors.BadSignature(),
    "forbidden": errors.Forbidden(),
    "missing": errors.NotFound(),
    "conflict": errors.Conflict("That run key is taken.", run_id="42", status="never", type="never"),
    "subclass": Unmapped(),
    "large": errors.TooLarge(limit=5),
    "away": errors.Unavailable(retry_after=7),
    "gone": ClientGone(),
    "lease": errors.LeaseLost(),
    "bug": ZeroDivisionError(f"secret {TOKEN}"),
    "msgspec": msgspec.ValidationError("secret"),
    "unicode": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "secret"),
    "recursion": RecursionError("secret"),
    "framework": HTTPException(detail="secret", status_code=500),
    "teapot": HTTPException(detail=f"with {TOKEN}", status_code=418),
}


@get("/raise/{name:str}/{token:str}", sync_to_thread=False)
def fail(name: FromPath[str], token: FromPath[str]) -> None:
    raise RAISED[name]


@get("/foreign/{name:str}", sync_to_thread=False)
def fail_abroad(name: FromPath[str]) -> None:
    raise RAISED[name]


@get("/typed/{number:int}/{token:str}", sync_to_thread=False)
def typed(number: FromPath[int], token: FromPath[str], limit: FromQuery[int]) -> int:
    return number + limit + len(token)


@post("/body", sync_to_thread=False)
def with_body(data: JSONBody[dict[str, Any]]) -> int:
    return len(data)


def foreign(problem: Problem) -> Response[bytes]:
    return Response(b"foreign " + problem.code.encode(), status_code=problem.status, media_type="text/plain")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    with captured_logs() as log:
        yield log


@pytest.fixture
def client(log: io.StringIO) -> Iterator[TestClient[Litestar]]:
    app = Litestar(
        [fail, fail_abroad, typed, with_body],
        exception_handlers=exception_handlers({"/foreign": foreign}),
        logging_config=None,
        openapi_config=None,
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("invalid", 422, "invalid"),
        ("malformed", 400, "malformed"),
        ("media", 415, "unsupported_media"),
        ("unauthenticated", 401, "unauthenticated"),
        ("signature", 401, "bad_signature"),
        ("forbidden", 403, "forbidden"),
        ("missing", 404, "not_found"),
        ("conflict", 409, "conflict"),
        ("subclass", 409, "unmapped"),
        ("large", 413, "too_large"),
        ("away", 503, "unavailable"),
        ("gone", 499, "client_gone"),
        ("lease", 500, "internal"),
        ("bug", 500, "internal"),
        ("msgspec", 400, "malformed"),
        ("unicode", 400, "malformed"),
        ("recursion", 400, "malformed"),
        ("framework", 500, "internal"),
        ("teapot", 418, "refused"),
    ],
)
def test_each_error_has_its_status_and_its_code(
    client: TestClient[Litestar], name: str, status: int, code: str
) -> None:
    answer = client.get(f"/raise/{name}/{TOKEN}")
    body = answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["status"], body["type"]) == (status, f"/problems/{code}")
    assert body["title"] == code.replace("_", " ").capitalize()
    assert body["detail"]
    assert "secret" not in answer.text
    assert TOKEN not in answer.text


def test_invalid_names_the_fields(client: TestClient[Litestar]) -> None:
    assert client.get("/raise/invalid/x").json()["errors"] == [{"pointer": "/cron", "message": "Expected `str`"}]


def test_further_members_are_shown_but_do_not_replace_the_standard_ones(client: TestClient[Litestar]) -> None:
    body = client.get("/raise/conflict/x").json()
    assert body["run_id"] == "42"
    assert (body["status"], body["type"]) == (409, "/problems/conflict")


def test_headers_tell_how_to_authenticate_and_when_to_retry(client: TestClient[Litestar]) -> None:
    assert client.get("/raise/unauthenticated/x").headers["www-authenticate"] == "Bearer"
    assert client.get("/raise/signature/x").headers["www-authenticate"] == "Bearer"
    assert client.get("/raise/away/x").headers["retry-after"] == "7"


def test_an_unknown_path_is_a_plain_not_found(client: TestClient[Litestar]) -> None:
    answer = client.get(f"/nowhere/{TOKEN}")
    assert answer.json() == {
        "type": "/problems/not_found",
        "title": "Not found",
        "status": 404,
        "detail": "There is nothing here.",
    }


def test_a_wrong_method_is_told_the_right_ones(client: TestClient[Litestar]) -> None:
    answer = client.put("/body")
    assert (answer.status_code, answer.json()["type"]) == (405, "/problems/method_not_allowed")
    assert "POST" in answer.headers["allow"]


def test_a_wrong_parameter_is_named_without_the_path(client: TestClient[Litestar]) -> None:
    answer = client.get(f"/typed/1/{TOKEN}?limit=many")
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == ""
    assert error["message"].startswith("query parameter limit: Expected `int`")
    assert TOKEN not in answer.text


def test_a_wrong_typed_body_is_pointed_into(client: TestClient[Litestar]) -> None:
    answer = client.post("/body", content=b"[1]", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")


@pytest.mark.parametrize("body", [b'{"a": "\xff"}', b'{"a":' + b"[" * 5000, b"{"])
def test_an_unreadable_typed_body_is_400(client: TestClient[Litestar], body: bytes) -> None:
    answer = client.post("/body", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed")


def test_what_is_unexpected_is_logged_with_its_route_and_without_secrets(
    client: TestClient[Litestar], log: io.StringIO
) -> None:
    client.get(f"/raise/bug/{TOKEN}")
    client.get("/raise/missing/x")
    (line,) = log.getvalue().splitlines()
    event = json.loads(line)
    assert event["route"] == "/raise/{name}/{token}"
    assert "ZeroDivisionError" in event["exception"]
    assert TOKEN not in line


def test_a_dialect_answers_in_its_own_shape(client: TestClient[Litestar]) -> None:
    assert client.get("/foreign/missing").text == "foreign not_found"
    assert client.get("/foreign/no/such/path").text == "foreign not_found"
    assert client.get("/foreignish").json()["status"] == 404


def other(problem: Problem) -> Response[bytes]:
    return Response(b"", status_code=problem.status)


@pytest.mark.parametrize(
    ("path", "envelope"),
    [
        ("/api/v2/dags", other),
        ("/api/v1", foreign),
        ("/api/", foreign),
        ("/apiary", problem_json),
        ("/", problem_json),
        ("/api/pipelines/7", foreign),
        ("/api/pipelines/7/run", other),
        ("/api/pipelines/7/run/8", other),
        ("/api/pipelines/7/runs", foreign),
        ("/api/pipelines/all/run", foreign),
        ("/pipelines/7/run", problem_json),
    ],
)
def test_the_longest_and_then_the_most_exact_beginning_chooses_the_envelope(path: str, envelope: Any) -> None:
    envelopes = {
        "/api/pipelines/all/run": foreign,
        "/api/pipelines/{id}/run": other,
        "/api": foreign,
        "/api/v2": other,
    }
    assert envelope_for(path, envelopes) is envelope
    assert envelope_for(path, dict(reversed(envelopes.items()))) is envelope


def test_a_dialect_says_no_in_its_own_words_and_with_its_own_status() -> None:
    refused = describe_error(Refused(f"Dag {TOKEN} not found", status=418, kind="DagNotFound"))

    assert (refused.status, refused.detail, refused.extra) == (418, "Dag pst_*** not found", {"kind": "DagNotFound"})
    assert describe_error(Refused()).status == 400


def test_every_error_of_the_tree_can_be_answered() -> None:
    def tree(kind: type[errors.PenstockError]) -> Iterator[type[errors.PenstockError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from tree(child)

    for kind in tree(errors.PenstockError):
        assert 400 <= describe_error(kind()).status <= 503, kind


def test_an_answer_does_not_know_the_request() -> None:
    assert "instance" not in json.loads(problem_json(describe_error(errors.NotFound())).content)


def test_handlers_take_any_request() -> None:
    handlers = exception_handlers()
    scope: Any = {"type": "http", "path": "/", "method": "GET", "headers": []}
    handler: Any = handlers[Exception]
    assert handler(Request(scope), ValueError()).status_code == 500
