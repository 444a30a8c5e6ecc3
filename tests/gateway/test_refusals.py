"""What was refused at the gate is written down later, whatever Postgres says of one of them."""

import msgspec

from gateway.incoming import Incoming
from gateway.refusals import Refusals
from schemas.errors import BadSignature
from schemas.store.db import Database
from tests.faults import Connection
from tests.gateway.deliveries import GATE
from tests.waiting import eventually


async def test_a_refusal_that_cannot_be_written_does_not_hold_up_the_next(db: Database, connection: Connection) -> None:
    await connection.execute("ALTER TABLE events ADD CONSTRAINT nothing_of_github CHECK (source <> 'github')")
    refusals = Refusals(db)
    refusals.start()

    for source in ("github", "stripe"):
        gate = msgspec.structs.replace(GATE, source=source)
        refusals.note(gate, Incoming({}, b"{}"), BadSignature("It is missing."))

    async def written() -> list[str]:
        return [row["source"] for row in await connection.fetch("SELECT source FROM events")]

    assert await eventually(written, timeout=10) == ["stripe"]
    await refusals.stop()
