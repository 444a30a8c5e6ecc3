"""Every source at a running gateway: a signed sample becomes a run, once, and what was changed is refused."""

import time
import uuid

import httpx
import msgspec
import pytest

from gateway import sources
from gateway.incoming import Incoming
from schemas.errors import Invalid
from schemas.schedules import SourceConfig
from tests.captured_requests import read_config
from tests.ed25519_keys import PUBLIC, SEED
from tests.problems import problem
from tests.system import Json, Penstock

ALL = sources.discover()
PRIVATE = {"discord": SourceConfig(secrets=(SEED,), public_key=PUBLIC)}


def sample(name: str, hook: str) -> Incoming | None:
    """Sign the first sample for a hook; None where only the sender can."""
    filled = ALL[name].samples[sorted(ALL[name].samples)[0]].fill(time.time(), str(uuid.uuid4()))
    try:
        return ALL[name].sign(msgspec.structs.replace(filled, url=hook), PRIVATE.get(name, read_config(name)))
    except Invalid:
        return None


async def hook_of(shared: Penstock, name: str) -> str:
    return await shared.hook("quick", source=name, source_config=msgspec.to_builtins(read_config(name)))


@pytest.mark.parametrize("name", sorted(name for name, source in ALL.items() if source.schemes))
async def test_a_signed_sample_becomes_a_run_once_and_a_changed_one_none(name: str, shared: Penstock) -> None:
    hook = await hook_of(shared, name)
    request = sample(name, hook)
    if request is None:
        return
    unsigned = {header: value for header, value in request.headers.items() if header == "content-type"}

    headers = {**request.headers, "accept": "application/json"}
    first = await shared.deliver(request.url, request.body, **headers)
    again = await shared.deliver(request.url, request.body, **headers)
    forged = await shared.deliver(hook, request.body, **unsigned)

    assert (first.status_code, first.json()["status"]) == (202, "accepted")
    if ALL[name].facts(request, read_config(name)).delivery_id:
        assert (again.status_code, again.json()["runs"][0]["id"]) == (200, first.json()["runs"][0]["id"])
    problem(forged, 401, "bad_signature")


async def test_slacks_challenge_is_returned_as_it_wants_it(shared: Penstock) -> None:
    hook = await hook_of(shared, "slack")
    body = b'{"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}'
    request = ALL["slack"].sign(Incoming({}, body, now=time.time()), read_config("slack"))

    answer = await shared.deliver(hook, body, **request.headers)

    assert (answer.status_code, answer.content) == (200, b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P")
    assert answer.headers["content-type"].startswith("text/plain")
    problem(await shared.deliver(hook, body + b" ", **request.headers), 401, "bad_signature")


async def test_discords_ping_is_answered_with_nothing_and_its_wrong_one_with_401(shared: Penstock) -> None:
    hook = await hook_of(shared, "discord")
    body = b'{"version": 1, "application_id": "1", "type": 0}'
    request = ALL["discord"].sign(Incoming({}, body, now=time.time()), PRIVATE["discord"])

    answer = await shared.deliver(hook, body, **request.headers)

    assert (answer.status_code, answer.content) == (204, b"")
    problem(await shared.deliver(hook, body + b" ", **request.headers), 401, "bad_signature")


async def test_discord_hears_204_when_an_event_of_it_was_taken(shared: Penstock) -> None:
    hook = await hook_of(shared, "discord")
    request = sample("discord", hook)
    assert request is not None

    for _ in range(2):
        answer = await shared.deliver(hook, request.body, **request.headers)
        assert (answer.status_code, answer.content) == (204, b"")

    [duplicate, taken] = (await shared.client.get("/v1/events", params={"schedule_id": hook.split("/")[-2]})).json()[
        "items"
    ]
    assert (taken["verdict"], duplicate["verdict"]) == ("accepted", "duplicate")


async def test_metas_challenge_is_returned_to_who_knows_the_token(shared: Penstock) -> None:
    hook = await hook_of(shared, "meta")
    asked = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "meatyhamhock"}

    async with httpx.AsyncClient(trust_env=False) as sender:
        answer = await sender.get(hook, params=asked)
        wrong = await sender.get(hook, params=asked | {"hub.verify_token": "beef"})

    assert (answer.status_code, answer.content) == (200, b"1158201444")
    assert answer.headers["content-type"].startswith("text/plain")
    problem(wrong, 401, "bad_signature")


@pytest.mark.parametrize("name", ["gitea", "forgejo"])
async def test_a_delivery_in_the_query_of_a_get_becomes_a_run(name: str, shared: Penstock) -> None:
    hook = await hook_of(shared, name)
    request = sample(name, hook)
    assert request is not None
    headers = {header: value for header, value in request.headers.items() if header != "content-type"}

    async with httpx.AsyncClient(trust_env=False) as sender:
        answer = await sender.get(hook, params={"payload": request.body.decode()}, headers=headers)
        forged = await sender.get(hook, params={"payload": "{}"}, headers=headers)

    assert answer.status_code == 202
    run = await shared.ended(answer.json()["runs"][0]["id"])
    assert run["event_variables"] == msgspec.json.decode(request.body)
    problem(forged, 401, "bad_signature")


KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("name", "config", "pointer"),
    [
        ("discord", {}, "public_key"),
        ("discord", {"public_key": PUBLIC[:-2]}, "public_key"),
        ("github", {"secrets": ["a"], "public_key": PUBLIC}, "public_key"),
        ("gitlab", {"secrets": ["plain", "whsec_!"]}, "secrets/1"),
        ("svix", {"secrets": [KEY, "whsec_!"]}, "secrets/1"),
        ("telegram", {"secrets": ["with space"]}, "secrets/0"),
        ("hmac", {"secrets": ["a"], "signature": {"header": "X-S", "template": "{body}{nonce}"}}, "signature/template"),
        ("hmac", {"secrets": ["a"], "signature": {"header": "X-S", "template": "{id}.{body}"}}, "signature/id_header"),
        ("hmac", {"secrets": ["a"], "signature": {"header": "X-S", "timestamp_header": "X-T"}}, "signature/template"),
        ("hmac", {"secrets": ["not hex"], "signature": {"header": "X-S", "key_encoding": "hex"}}, "secrets/0"),
    ],
)
async def test_what_could_never_verify_anything_is_pointed_at_when_it_is_saved(
    name: str, config: Json, pointer: str, shared: Penstock
) -> None:
    new = {"pipeline_id": "quick", "name": "x", "source": name, "source_config": config}

    refused = await shared.client.post("/v1/schedules", json=new)

    problem(refused, 422, "invalid")
    assert [error["pointer"] for error in refused.json()["errors"]] == [f"/source_config/{pointer}"]
