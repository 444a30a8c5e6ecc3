"""G1 and G3: accepted means committed, and one delivery makes one run, whatever happens to the gateway."""

import asyncio
import random
import signal
from collections import Counter

from tests.faults import Connection, Crowd, all_ended, assert_history_is_whole, assert_nothing_was_lost, post
from tests.system import Penstock, free_port

DUPLICATES = 1000


async def test_what_was_accepted_is_there_although_the_gateway_is_killed_again_and_again(
    penstock: Penstock, connection: Connection
) -> None:
    gateway, _ = await penstock.start()
    hook = await penstock.hook("quick")

    async with Crowd(hook, per_second=150) as crowd:
        for _ in range(4):
            await crowd.reached(len(crowd.accepted) + random.randint(10, 60))
            await gateway.end(signal.SIGKILL)
            gateway = await penstock.start_gateway()
        await crowd.reached(len(crowd.accepted) + 50)

    assert crowd.broken > 0  # or nothing was interrupted
    assert [answer.text for answer in crowd.refusals] == []
    await assert_nothing_was_lost(crowd, connection)
    assert await all_ended(connection, within=30) == {"success": len(crowd.accepted)}
    await assert_history_is_whole(connection)


async def test_a_thousand_copies_of_one_delivery_over_two_gateways_make_one_run(
    penstock: Penstock, connection: Connection
) -> None:
    other_port = free_port()
    gateway, _, _ = await asyncio.gather(
        penstock.start_gateway(), penstock.start_gateway(port=other_port), penstock.start_runner()
    )
    hook = await penstock.hook("quick")
    hooks = [hook, hook.replace(f":{penstock.port}/", f":{other_port}/")]

    answers = await asyncio.gather(*(post(hooks[n % 2], idempotency_key="the-one") for n in range(DUPLICATES)))

    assert Counter(status for status, _ in answers) == {202: 1, 200: DUPLICATES - 1}
    assert Counter(answer["status"] for _, answer in answers) == {"accepted": 1, "duplicate": DUPLICATES - 1}
    assert len({answer["event_id"] for _, answer in answers}) == 1
    run_ids = {run["id"] for _, answer in answers for run in answer["runs"]}
    assert len(run_ids) == 1
    assert await connection.fetchval("SELECT count(*) FROM runs") == 1
    assert await connection.fetchval("SELECT deliveries FROM event_keys") == DUPLICATES

    await gateway.end(signal.SIGKILL)
    await penstock.start_gateway()
    status, later = await post(hook, idempotency_key="the-one")
    assert (status, later["status"], {run["id"] for run in later["runs"]}) == (200, "duplicate", run_ids)
    assert await all_ended(connection, within=10) == {"success": 1}


async def test_the_same_key_means_nothing_to_another_schedule(shared: Penstock) -> None:
    first, second = await shared.hook("quick"), await shared.hook("quick")

    runs = [await shared.delivered_run(hook, idempotency_key="same") for hook in (first, second)]

    assert runs[0] != runs[1]
