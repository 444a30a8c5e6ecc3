from tests.system import Penstock


async def test_users_may_call_a_pipeline_something_else(shared: Penstock) -> None:
    named = await shared.client.patch("/v1/pipelines/branches", json={"name": "Steady", "description": "It works."})
    kept = (await shared.client.patch("/v1/pipelines/branches", json={"description": None})).json()
    wrong = await shared.client.patch("/v1/pipelines/branches", json={"name": ""})

    assert (named.json()["name"], named.json()["description"]) == ("Steady", "It works.")
    assert (kept["name"], kept["description"]) == ("Steady", None)
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/name")
    assert (await shared.client.patch("/v1/pipelines/branches", json={"name": None})).json()["name"] is None
