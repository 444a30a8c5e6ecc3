"""People are told of a failure or a passed SLA, in Slack and by e-mail."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from gateway.embedded import EmbeddedServers
from tests.conftest import FLOWS
from tests.faults import Connection
from tests.receivers import Receiver
from tests.system import Penstock
from tests.told import LOCAL, callbacks_of, reached, settled, trigger
from tests.waiting import eventually


@pytest.fixture
async def penstock(servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    async with Penstock(
        database_url=database_url, redis_url=servers.redis_url, directory=tmp_path, pipelines=FLOWS, **LOCAL
    ) as system:
        yield system


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as listening:
        yield listening


async def test_slack_hears_of_failures_and_a_passed_sla(
    penstock: Penstock, receiver: Receiver, connection: Connection
) -> None:
    await penstock.start()
    hook = f"{receiver.url}/services/T000/B000/secret"
    await penstock.client.patch("/v1/pipelines/breaks", json={"notify": {"slack_url": hook}})
    await penstock.client.patch("/v1/pipelines/quick", json={"notify": {"slack_url": hook}})
    await penstock.client.patch("/v1/pipelines/lingering", json={"notify": {"slack_url": hook}})
    await penstock.ended(await trigger(penstock))  # a success, which nobody asked for

    failed = await trigger(penstock, "breaks")
    [told] = await receiver.got(1)
    number = (await penstock.run(failed))["number"]
    assert told.json["text"] == f"❌ breaks, run #{number}: failed"
    section, context = told.json["blocks"]
    assert "block broken: ValueError: no &lt;rows&gt; &amp; nothing" in section["text"]["text"]
    assert context["elements"][0]["text"] == f"<https://penstock.example.org/v1/runs/{failed}|Open the run>"
    assert "webhook-signature" not in told.headers
    [callback] = await settled(penstock, failed, "delivered")
    assert (callback["kind"], callback["target"]) == ("slack", f"{receiver.url}/***")

    late = await trigger(penstock, "lingering")
    await reached(penstock, late, "running")
    await connection.execute("UPDATE runs SET passed_sla = true WHERE id = $1", late)
    await connection.execute("UPDATE runs SET passed_sla = true WHERE id = $1", late)
    _, alert = await receiver.got(2)
    assert re.fullmatch(r"⏰ lingering, run #\d+: passed its SLA, running", alert.json["text"])
    [callback] = await settled(penstock, late, "delivered")
    assert callback["reason"] == "passed_sla"


class Mailbox:
    """A real SMTP server; it refuses who is called `nobody`."""

    def __init__(self) -> None:
        self.letters: list[Envelope] = []

    async def handle_RCPT(  # noqa: N802  (aiosmtpd's name)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address.startswith("nobody"):
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.letters.append(envelope)
        return "250 OK"


async def test_mail_is_sent_to_each_address(penstock: Penstock) -> None:
    mailbox = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = {"smtp_url": f"smtp://127.0.0.1:{port}", "mail_from": "Penstock <penstock@example.org>"}
    await penstock.start(**settings)
    notify = {"email": ["ada@example.org", "nobody@example.org"], "on": ["failed", "success"]}
    await penstock.client.patch("/v1/pipelines/breaks", json={"notify": notify})

    run_id = await trigger(penstock, "breaks")
    await eventually(lambda: mailbox.letters, timeout=10)

    async def both_were_tried() -> bool:
        return all(found["last_attempt"] for found in await callbacks_of(penstock, run_id))

    await eventually(both_were_tried, timeout=10)
    by_target = {found["target"]: found for found in await callbacks_of(penstock, run_id)}
    assert by_target["ada@example.org"]["state"] == "delivered"
    assert by_target["nobody@example.org"]["state"] == "pending"
    refused = by_target["nobody@example.org"]["last_attempt"]
    assert (refused["status"], refused["error"]) == (550, "no such person")
    [letter] = mailbox.letters
    text = (letter.content or b"").decode()  # type: ignore[union-attr]
    number = (await penstock.run(run_id))["number"]
    assert letter.rcpt_tos == ["ada@example.org"]
    assert f"Subject: breaks, run #{number}: failed" in text
    assert "block broken: ValueError: no <rows> & nothing" in text
    assert f"https://penstock.example.org/v1/runs/{run_id}" in text
    server.close()
