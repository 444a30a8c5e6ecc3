"""Runs that tell others of their end, as a caller of the API follows that."""

from tests.system import Json, Penstock
from tests.waiting import eventually

LOCAL = {"outgoing_allow": "127.0.0.0/8", "public_url": "https://penstock.example.org"}


async def trigger(penstock: Penstock, pipeline: str = "quick", **body: object) -> str:
    """Start a run and return its id."""
    answer = await penstock.client.post(f"/v1/pipelines/{pipeline}/runs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def callbacks_of(penstock: Penstock, run_id: str) -> list[Json]:
    """Read the callbacks of a run."""
    answer = await penstock.client.get("/v1/callbacks", params={"run_id": run_id})
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["items"]
    return found


async def settled(penstock: Penstock, run_id: str, state: str, count: int = 1) -> list[Json]:
    """Wait until so many callbacks of a run are in a state, and read them with their attempts."""

    async def are_settled() -> bool:
        return [found["state"] for found in await callbacks_of(penstock, run_id)] == [state] * count

    await eventually(are_settled, timeout=10)
    found = await callbacks_of(penstock, run_id)
    return [(await penstock.client.get(f"/v1/callbacks/{callback['id']}")).json() for callback in found]


async def reached(penstock: Penstock, run_id: str, state: str) -> None:
    """Wait until a run is in a state."""

    async def is_there() -> bool:
        return bool((await penstock.run(run_id))["state"] == state)

    await eventually(is_there, timeout=10)
