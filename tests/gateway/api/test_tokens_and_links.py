"""What fires a schedule: tokens that are shown once and end in many ways, and signed links that are used up."""

import asyncio
import datetime as dt

import asyncpg
import httpx
import pytest

from gateway.credentials import LinkSigner, could_be_token, new_token
from schemas.ids import new_id
from tests.problems import problem
from tests.system import Json, Penstock
from tests.waiting import eventually

UNKNOWN = "0198f0a0-0000-7000-8000-000000000001"


async def make_token(shared: Penstock, schedule: Json, **fields: object) -> Json:
    answer = await shared.client.post(f"/v1/schedules/{schedule['id']}/tokens", json=fields)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


async def make_link(shared: Penstock, schedule: Json, **fields: object) -> Json:
    answer = await shared.client.post(f"/v1/schedules/{schedule['id']}/links", json=fields)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


async def nothing_there(shared: Penstock) -> bytes:
    """Give the answer to a token that never existed."""
    answer = await shared.deliver(f"{shared.url}/hooks/{UNKNOWN}/{new_token()}")
    assert answer.status_code == 404
    return answer.content


async def is_let_in(shared: Penstock, url: str) -> bool:
    return (await shared.deliver(url)).status_code == 202


async def is_turned_away(shared: Penstock, url: str) -> bool:
    """Whether a delivery is answered as if there had never been such a hook."""
    answer = await shared.deliver(url)
    return answer.status_code == 404 and answer.content == await nothing_there(shared)


async def test_a_token_is_shown_once_and_listed_by_its_hint(shared: Penstock) -> None:
    schedule = await shared.schedule("quick")
    expires_at = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).replace(microsecond=0)
    made = await make_token(shared, schedule, label="ci", expires_at=expires_at.isoformat())

    assert could_be_token(made["token"])
    assert made == {
        "id": made["id"],
        "token": made["token"],
        "url": f"{shared.url}/hooks/{schedule['id']}/{made['token']}",
        "label": "ci",
        "expires_at": expires_at.isoformat().replace("+00:00", "Z"),
    }
    listing = await shared.client.get(f"/v1/schedules/{schedule['id']}/tokens")
    assert made["token"] not in listing.text
    assert listing.json() == {
        "items": [
            {
                "id": made["id"],
                "schedule_id": schedule["id"],
                "hint": made["token"][-4:],
                "label": "ci",
                "created_at": listing.json()["items"][0]["created_at"],
                "expires_at": made["expires_at"],
                "revoked_at": None,
                "last_used_at": None,
            }
        ],
        "next_cursor": None,
    }


async def test_only_the_hash_of_a_token_is_stored(
    shared: Penstock, shared_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    made = await make_token(shared, await shared.schedule("quick"))

    row = await shared_connection.fetchrow("SELECT * FROM tokens WHERE id = $1", made["id"])

    assert len(row["hash"]) == 32
    assert made["token"] not in repr(dict(row))


async def test_every_way_to_present_a_token_is_the_same(shared: Penstock) -> None:
    schedule = await shared.schedule("quick")
    token = (await make_token(shared, schedule))["token"]

    for name in (schedule["id"], schedule["number"]):
        base = f"{shared.url}/hooks/{name}"
        assert (await shared.deliver(f"{base}/{token}")).status_code == 202
        assert (await shared.deliver(base, x_penstock_token=token)).status_code == 202
        assert (await shared.deliver(base, authorization=f"Bearer {token}")).status_code == 202
        assert (await shared.deliver(base, authorization=f"bearer  {token}")).status_code == 202


async def test_whatever_is_wrong_with_a_token_the_answer_is_the_same_to_the_byte(shared: Penstock) -> None:
    schedule, other = await shared.schedule("quick"), await shared.schedule("quick")
    token = (await make_token(shared, schedule))["token"]
    revoked = await make_token(shared, schedule)
    expired = await make_token(shared, schedule, expires_at="2020-01-01T00:00:00Z")
    deleted = await shared.schedule("quick")
    of_deleted = await make_token(shared, deleted)
    assert await is_let_in(shared, revoked["url"])
    assert await is_let_in(shared, of_deleted["url"])
    await shared.client.delete(f"/v1/tokens/{revoked['id']}")
    await shared.client.delete(f"/v1/schedules/{deleted['id']}")
    base = f"{shared.url}/hooks"

    answers = [
        await shared.deliver(url)
        for url in (
            f"{base}/{schedule['id']}/{new_token()}",
            f"{base}/{schedule['id']}/{token[:-1]}",
            f"{base}/{schedule['id']}/{token}x",
            f"{base}/{schedule['id']}/nonsense",
            f"{base}/{other['id']}/{token}",
            f"{base}/{UNKNOWN}/{token}",
            f"{base}/nonsense/{token}",
            f"{base}/{schedule['id']}",
            revoked["url"],
            expired["url"],
            of_deleted["url"],
        )
    ]
    answers.append(await shared.deliver(f"{base}/{schedule['id']}", authorization="Basic eDp5"))
    answers.append(await shared.deliver(f"{base}/{schedule['id']}", x_penstock_token=new_token()))

    assert {answer.status_code for answer in answers} == {404}
    assert {answer.content for answer in answers} == {await nothing_there(shared)}
    varying = {"date", "x-request-id"}
    assert len({tuple(sorted(item for item in a.headers.items() if item[0] not in varying)) for a in answers}) == 1


async def test_a_token_can_be_replaced_while_the_old_one_lives_on_for_a_while(shared: Penstock) -> None:
    old = await make_token(shared, await shared.schedule("quick"), label="deploy")

    answer = await shared.client.post(f"/v1/tokens/{old['id']}/rotate", json={"grace_s": 3600})
    new = answer.json()

    assert answer.status_code == 201
    assert (new["label"], new["expires_at"]) == ("deploy", None)
    assert new["token"] != old["token"]
    assert await is_let_in(shared, old["url"])
    assert await is_let_in(shared, new["url"])
    listed = await shared.client.get(f"/v1/schedules/{old['url'].split('/')[-2]}/tokens")
    assert [token["expires_at"] is None for token in listed.json()["items"]] == [True, False]


async def test_without_grace_the_old_token_ends_at_once(shared: Penstock) -> None:
    old = await make_token(shared, await shared.schedule("quick"))
    assert await is_let_in(shared, old["url"])

    new = (await shared.client.post(f"/v1/tokens/{old['id']}/rotate", json={"grace_s": 0})).json()

    assert await is_turned_away(shared, old["url"])
    assert await is_let_in(shared, new["url"])


async def test_a_rotation_never_prolongs_the_old_token(shared: Penstock) -> None:
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)).isoformat()
    schedule = await shared.schedule("quick")
    old = await make_token(shared, schedule, expires_at=soon)

    await shared.client.post(f"/v1/tokens/{old['id']}/rotate", json={"grace_s": 86_400})

    listed = (await shared.client.get(f"/v1/schedules/{schedule['id']}/tokens")).json()["items"]
    assert next(token for token in listed if token["id"] == old["id"])["expires_at"] == old["expires_at"]


async def test_a_token_that_is_remembered_ends_at_its_time(shared: Penstock) -> None:
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5)).isoformat()
    made = await make_token(shared, await shared.schedule("quick"), expires_at=soon)
    assert await is_let_in(shared, made["url"])

    await eventually(lambda: is_turned_away(shared, made["url"]), timeout=5)


async def test_a_revoked_token_cannot_be_rotated_but_revoked_again(shared: Penstock) -> None:
    made = await make_token(shared, await shared.schedule("quick"))
    for _ in range(2):
        assert (await shared.client.delete(f"/v1/tokens/{made['id']}")).status_code == 204

    problem(await shared.client.post(f"/v1/tokens/{made['id']}/rotate"), 422, "invalid")


@pytest.mark.parametrize("token_id", [UNKNOWN, "7", "latest"])
async def test_an_unknown_token_can_neither_be_revoked_nor_rotated(token_id: str, shared: Penstock) -> None:
    problem(await shared.client.delete(f"/v1/tokens/{token_id}"), 404, "not_found")
    problem(await shared.client.post(f"/v1/tokens/{token_id}/rotate"), 404, "not_found")


@pytest.mark.parametrize("fields", [{"expires_at": "tomorrow"}, {"expires_at": "2030-01-01T00:00:00"}, {"token": "x"}])
async def test_a_wrong_wish_for_a_token_is_refused(fields: Json, shared: Penstock) -> None:
    schedule = await shared.schedule("quick")

    problem(await shared.client.post(f"/v1/schedules/{schedule['id']}/tokens", json=fields), 422, "invalid")


async def test_a_link_fires_its_schedule_with_pinned_variables(shared: Penstock) -> None:
    schedule = await shared.schedule("steps", variables={"seconds": 0.01, "diary": ""})
    link = await make_link(shared, schedule, variables={"seconds": 0.02}, max_uses=3, expires_in_s=60)

    assert link == {
        "id": link["id"],
        "url": link["url"],
        "expires_at": link["expires_at"],
        "max_uses": 3,
        "variables": {"seconds": 0.02},
    }
    run = await shared.run(await shared.delivered_run(link["url"], b'{"seconds": 9}'))
    assert run["variables"] == {"seconds": 0.02, "diary": ""}
    assert run["event_variables"] == {"seconds": 9}


async def test_a_link_for_one_use_is_used_once_however_many_try(shared: Penstock) -> None:
    link = await make_link(shared, await shared.schedule("quick"))

    async with httpx.AsyncClient(trust_env=False, timeout=30) as sender:
        answers = await asyncio.gather(*(sender.post(link["url"], content=b"{}") for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [202] + [404] * 19
    assert {answer.content for answer in answers if answer.status_code == 404} == {await nothing_there(shared)}


async def test_a_link_for_three_uses_is_used_three_times(shared: Penstock) -> None:
    link = await make_link(shared, await shared.schedule("quick"), max_uses=3)

    async with httpx.AsyncClient(trust_env=False, timeout=30) as sender:
        answers = await asyncio.gather(*(sender.post(link["url"], content=b"{}") for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [404] * 17


async def test_a_link_without_a_limit_is_used_again_and_again(shared: Penstock) -> None:
    link = await make_link(shared, await shared.schedule("quick"), max_uses=None)

    assert [await is_let_in(shared, link["url"]) for _ in range(5)] == [True] * 5


async def test_a_refused_or_dry_delivery_does_not_use_a_link_up(shared: Penstock) -> None:
    link = await make_link(shared, await shared.schedule("quick", body_limit=10))

    problem(await shared.deliver(link["url"], b"x" * 11), 413, "too_large")
    problem(await shared.deliver(link["url"], b"{", content_type="application/json"), 400, "malformed")
    assert (await shared.deliver(link["url"] + "?dry_run=1")).json()["status"] == "accepted"

    assert await is_let_in(shared, link["url"])
    assert await is_turned_away(shared, link["url"])


async def test_a_link_expires(shared: Penstock) -> None:
    link = await make_link(shared, await shared.schedule("quick"), expires_in_s=1, max_uses=None)

    await eventually(lambda: is_turned_away(shared, link["url"]), timeout=5)


async def test_a_link_ends_with_its_schedule(shared: Penstock) -> None:
    schedule = await shared.schedule("quick")
    link = await make_link(shared, schedule, max_uses=None)
    assert await is_let_in(shared, link["url"])

    await shared.client.delete(f"/v1/schedules/{schedule['id']}")

    assert await is_turned_away(shared, link["url"])


async def test_a_link_that_was_tampered_with_is_none(shared: Penstock) -> None:
    schedule, other = await shared.schedule("quick"), await shared.schedule("quick")
    link = await make_link(shared, schedule, max_uses=None)
    base, _, signed = link["url"].rpartition("/")
    link_id, stamp, signature = signed.split(".")

    for url in (
        f"{base}/{signed[:-2]}",
        f"{base}/{new_id().hex}.{stamp}.{signature}",
        f"{base}/{link_id}.AAAAAA.{signature}",
        f"{base}/{LinkSigner(['a stolen idea of a key']).sign(new_id())}",
        f"{base}/{LinkSigner(['second-key']).sign(new_id())}",
        f"{shared.url}/hooks/{other['id']}/{signed}",
    ):
        assert await is_turned_away(shared, url), url
    assert await is_let_in(shared, link["url"])


@pytest.mark.parametrize(
    "fields", [{"expires_in_s": 0}, {"expires_in_s": 10**9}, {"max_uses": 0}, {"variables": []}, {"uses": 1}]
)
async def test_a_wrong_wish_for_a_link_is_refused(fields: Json, shared: Penstock) -> None:
    schedule = await shared.schedule("quick")

    problem(await shared.client.post(f"/v1/schedules/{schedule['id']}/links", json=fields), 422, "invalid")
