"""Every example runs: as plain functions, and from its sample payload to success through real processes."""

import asyncio
import hashlib
import hmac
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from gateway.embedded import EmbeddedServers
from runner import Run
from tests.pages import ROOT
from tests.system import Penstock

EXAMPLES = ROOT / "examples"
SECRET = "It's a Secret to Everybody"


def payload(name: str) -> bytes:
    return (EXAMPLES / "payloads" / f"{name}.json").read_bytes()


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def system(servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    """A Penstock whose pipelines are the examples."""
    async with Penstock(
        database_url=database_url, redis_url=servers.redis_url, directory=tmp_path, pipelines=EXAMPLES
    ) as system:
        await asyncio.gather(system.start_gateway(), system.start_runner())
        yield system


async def run_to_success(system: Penstock, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    run = await system.ended(answer.json()["runs"][0]["id"])
    assert run["state"] == "success", run["error"]
    return run


async def logged(system: Penstock, run: dict[str, Any]) -> list[tuple[str, str]]:
    answer = await system.client.get(f"/v1/runs/{run['id']}/logs")
    return [(line["block_id"], line["message"]) for line in answer.json()["items"]]


async def output(connection: "asyncpg.Connection[asyncpg.Record]", run: dict[str, Any], block: str) -> Any:
    data = await connection.fetchval(
        "SELECT data FROM block_outputs WHERE run_id = $1 AND block_id = $2", run["id"], block
    )
    return msgspec.msgpack.decode(data)


def test_every_example_has_a_payload_and_a_line_in_the_readme() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}

    assert names == {path.stem for path in (EXAMPLES / "payloads").glob("*.json")}
    for name in names:
        assert f"| [{name}.py]({name}.py) |" in (EXAMPLES / "README.md").read_text()


async def test_hello_greets_whoever_the_payload_names(
    system: Penstock, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    hook = await system.hook("hello", variables={"greeting": "Good morning"})

    run = await run_to_success(system, await system.deliver(hook, payload("hello")))

    assert await output(connection, run, "greet") == {"message": "Good morning, Ada!"}
    assert await logged(system, run) == [("greet", "Good morning, Ada!")]


async def test_a_signed_push_is_announced(system: Penstock, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    body = payload("github_push")
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    hook = await system.hook("github_push", source="github", source_config={"secrets": [SECRET]})

    answer = await system.deliver(
        hook, body, x_github_event="push", x_hub_signature_256=signature, content_type="application/json"
    )
    run = await run_to_success(system, answer)

    assert await output(connection, run, "announce") == {
        "is_release": True,
        "commits": 3,
        "authors": {"Hubot": 1, "Mona Lisa": 2},
    }
    assert {block["block_id"]: block["row_count"] for block in run["block_runs"]} == {
        "commits": 3,
        "authors": None,
        "changelog": 3,
        "announce": None,
    }
    assert [message for block, message in await logged(system, run) if block == "announce"] == [
        "0d1a26e Read orders in pages (Mona Lisa)",
        "f95f852 Name the region in the log (Hubot)",
        "59b20b8 Count orders once (Mona Lisa)",
        "announced",
    ]


async def test_an_unsigned_push_makes_no_run(system: Penstock) -> None:
    hook = await system.hook("github_push", source="github", source_config={"secrets": [SECRET]})

    answer = await system.deliver(hook, payload("github_push"), x_github_event="push")

    assert answer.status_code == 401
    assert (await system.client.get("/v1/runs")).json()["items"] == []


async def test_new_objects_are_loaded_when_their_suffix_is_wanted(
    system: Penstock, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    hook = await system.hook("s3_object_created")

    run = await run_to_success(system, await system.deliver(hook, payload("s3_object_created")))

    assert await output(connection, run, "load") == [
        {"bucket": "orders", "key": "in/March 2026.csv", "size": 1024, "loaded": True}
    ]
    assert await output(connection, run, "summary") == {"objects": 1, "bytes": 1024}
    assert await logged(system, run) == [("load", "loading")]


@pytest.mark.parametrize(
    ("body", "message"), [({"name": "Ada"}, "Hello, Ada!"), (None, "Hello, world!"), ([], "Hello, world!")]
)
def test_the_blocks_of_hello_are_plain_functions(body: Any, message: str) -> None:
    hello = load("hello")
    run = Run(params=hello.Params(), event_variables=body)

    assert hello.greet(run, hello.name(run)) == {"message": message}


async def test_the_blocks_of_github_push_are_plain_functions(capsys: pytest.CaptureFixture[str]) -> None:
    push = load("github_push")
    run = Run(params=push.Params(main_branch="trunk"), event_variables=msgspec.json.decode(payload("github_push")))
    commits = push.commits(run)

    announced = await push.announce(run, push.changelog(commits), push.authors(commits))

    assert announced == {"is_release": False, "commits": 3, "authors": {"Hubot": 1, "Mona Lisa": 2}}
    assert capsys.readouterr().out.splitlines()[-1] == "59b20b8 Count orders once (Mona Lisa)"


async def test_the_blocks_of_s3_object_created_are_plain_functions() -> None:
    s3 = load("s3_object_created")
    run = Run(params=s3.Params(suffix=".pdf"), event_variables=msgspec.json.decode(payload("s3_object_created")))

    loaded = await s3.load(run, s3.objects(run))

    assert s3.summary(loaded) == {"objects": 1, "bytes": 52_428_800}
    assert s3.objects(Run(params=s3.Params(), event_variables={"Event": "s3:TestEvent"})) == []
