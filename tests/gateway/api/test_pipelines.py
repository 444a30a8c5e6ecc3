from tests.problems import problem
from tests.system import Penstock


async def test_a_pipeline_whose_file_is_broken_says_why_and_cannot_be_run(shared: Penstock) -> None:
    pipeline = (await shared.client.get("/v1/pipelines/unreadable")).json()
    assert (pipeline["graph"], pipeline["version"]) == (None, None)
    assert pipeline["error"].startswith("unreadable.py:1: SyntaxError")

    refused = await shared.client.post("/v1/pipelines/unreadable/runs")

    assert pipeline["error"] in problem(refused, 409, "conflict")


async def test_users_may_call_a_pipeline_something_else(shared: Penstock) -> None:
    named = await shared.client.patch("/v1/pipelines/branches", json={"name": "Steady", "description": "It works."})
    kept = (await shared.client.patch("/v1/pipelines/branches", json={"description": None})).json()
    wrong = await shared.client.patch("/v1/pipelines/branches", json={"name": ""})

    assert (named.json()["name"], named.json()["description"]) == ("Steady", "It works.")
    assert (kept["name"], kept["description"]) == ("Steady", None)
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/name")
    assert (await shared.client.patch("/v1/pipelines/branches", json={"name": None})).json()["name"] is None
