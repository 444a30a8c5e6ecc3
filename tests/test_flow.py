"""The promise: a delivery becomes a run, the run is executed, and whoever watches is told."""

import hashlib
import hmac
import json

from tests.system import Penstock


async def test_a_delivery_becomes_a_finished_run_and_its_stream_tells_the_story(shared: Penstock) -> None:
    hook = await shared.hook("quick")

    answer = await shared.deliver(hook, b'{"city": "Turin"}', content_type="application/json")

    assert answer.status_code == 202
    accepted = answer.json()
    run_id = accepted["runs"][0]["id"]
    assert accepted == {
        "event_id": accepted["event_id"],
        "status": "accepted",
        "runs": [
            {
                "id": run_id,
                "number": accepted["runs"][0]["number"],
                "state": "queued",
                "url": f"http://127.0.0.1:{shared.port}/v1/runs/{run_id}",
                "stream_url": f"http://127.0.0.1:{shared.port}/v1/runs/{run_id}/stream",
            }
        ],
    }
    assert answer.headers["location"] == accepted["runs"][0]["url"]

    story = [event async for event in shared.events(f"/v1/runs/{run_id}/stream")]
    assert [(event["event"], event["data"].get("block_id"), event["data"].get("state")) for event in story] == [
        ("run", None, "queued"),
        ("run", None, "running"),
        ("block", "first", "running"),
        ("block", "first", "success"),
        ("block", "second", "running"),
        ("block", "second", "success"),
        ("run", None, "success"),
        ("end", None, "success"),
    ]
    assert [event["id"] for event in story] == ["1", "2", "3", "4", "5", "6", "7", None]
    assert sorted(event["data"]["at"] for event in story[:-1]) == [event["data"]["at"] for event in story[:-1]]

    run = await shared.run(run_id)
    assert run["state"] == "success"
    assert run["event_variables"] == {"city": "Turin"}
    assert run["event_id"] == accepted["event_id"]
    assert [block["state"] for block in run["block_runs"]] == ["success", "success"]


async def test_a_signed_github_push_runs_and_a_forged_one_does_not(shared: Penstock) -> None:
    secret, body = "It's a Secret to Everybody", json.dumps({"ref": "refs/heads/main"}).encode()
    hook = await shared.hook("quick", source="github", source_config={"secrets": ["an-older-one", secret]})
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()

    forged = await shared.deliver(hook, body + b" ", x_hub_signature_256=signature, x_github_event="push")
    assert (forged.status_code, forged.json()["type"]) == (401, "/problems/bad_signature")

    signed = await shared.deliver(
        hook, body, x_hub_signature_256=signature, x_github_event="push", x_github_delivery="72d3162e"
    )
    assert signed.status_code == 202
    run = await shared.ended(signed.json()["runs"][0]["id"])
    assert (run["state"], run["event_variables"]) == ("success", {"ref": "refs/heads/main"})

    again = await shared.deliver(
        hook, body, x_hub_signature_256=signature, x_github_event="push", x_github_delivery="72d3162e"
    )
    assert (again.status_code, again.json()["status"]) == (200, "duplicate")
    assert [run["id"] for run in again.json()["runs"]] == [run["id"]]


async def test_a_sender_may_wait_for_the_result(shared: Penstock) -> None:
    hook = await shared.hook("quick")

    answer = await shared.deliver(hook, b"1", prefer="wait=20")

    assert answer.status_code == 200
    assert [run["state"] for run in answer.json()["runs"]] == ["success"]
