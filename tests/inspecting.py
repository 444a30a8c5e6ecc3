"""What tests do with events over HTTP: deliver, find, inspect and replay them."""

from typing import Any

import httpx

from tests.problems import problem
from tests.system import Json, Penstock
from tests.waiting import eventually


def schedule_of(hook: str) -> str:
    return hook.split("/")[-2]


async def found(shared: Penstock, **query: object) -> list[str]:
    answer = await shared.client.get("/v1/events", params={name: str(value) for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    return [event["id"] for event in answer.json()["items"]]


async def inspected(shared: Penstock, event_id: str) -> Json:
    answer = await shared.client.get(f"/v1/events/{event_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def delivered(shared: Penstock, hook: str, body: bytes | str = b"{}", **headers: str) -> str:
    """Deliver and return the id of the event."""
    answer = await shared.deliver(hook, body, **headers)
    assert answer.status_code in (200, 202), answer.text
    return str(answer.json()["event_id"])


async def refused_event(shared: Penstock, hook: str, body: bytes = b"{}", **headers: str) -> str:
    """Deliver with a wrong signature and return the id of what is kept of it."""
    before = set(await found(shared, schedule_id=schedule_of(hook), verdict="rejected"))
    problem(await shared.deliver(hook, body, x_hub_signature_256="sha256=00", **headers), 401, "bad_signature")

    async def kept() -> set[str]:
        return set(await found(shared, schedule_id=schedule_of(hook), verdict="rejected")) - before

    return str((await eventually(kept)).pop())


async def replayed(shared: Penstock, event_id: str, **body: Any) -> httpx.Response:
    return await shared.client.post(f"/v1/events/{event_id}/replay", json=body)


async def replay_many(shared: Penstock, **body: Any) -> Json:
    answer = await shared.client.post("/v1/events/replay", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{shared.url}/v1/replays/{answer.json()['id']}"
    return dict(answer.json())


async def completed(shared: Penstock, replay: Json) -> Json:
    async def is_completed() -> Json | None:
        now = (await shared.client.get(f"/v1/replays/{replay['id']}")).json()
        return now if now["state"] != "running" else None

    ended: Json = await eventually(is_completed, timeout=20)
    return ended


async def runs_of(shared: Penstock, replay_id: str) -> list[Json]:
    """Read the runs that a replay made, the first one first."""
    answer = await shared.client.get("/v1/runs", params={"replay_id": replay_id, "limit": "200"})
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()["items"]))


async def change(shared: Penstock, hook: str, **fields: Any) -> None:
    answer = await shared.client.patch(f"/v1/schedules/{schedule_of(hook)}", json=fields)
    assert answer.status_code == 200, answer.text
