"""Pipelines, schedules, backfills and queued runs straight in the tables, and a runner that claims them."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from schemas.ids import new_id
from schemas.queue import Ring
from schemas.runs import Claimed
from schemas.store import leases
from schemas.store.db import Database

PIPELINE = "p"
EVER_S = -1e6  # an age that every run has


class Yard:
    """One pipeline `p`, what waits for it, and one runner; runs are known by their place in the order of queueing."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.runner_id = uuid.uuid4()
        self.runs: list[uuid.UUID] = []

    async def open(self, **columns: Any) -> "Yard":
        """Publish the pipeline with these columns, and register the runner."""
        fixed = {"id": PIPELINE, "version": "v1", "file": "p.py", "graph": {"blocks": [{"id": "b"}]}}
        await self.insert("pipelines", fixed | columns)
        await leases.register(self.db, self.runner_id, name="yard", lease_s=60)
        return self

    async def insert(self, table: str, columns: Mapping[str, Any]) -> None:
        names, places = ", ".join(columns), ", ".join(f"${place}" for place in range(1, len(columns) + 1))
        await self.db.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", *columns.values())

    async def schedule(self, **columns: Any) -> uuid.UUID:
        fixed = {"id": new_id(), "pipeline_id": PIPELINE, "name": "test", "kind": "api", "source": "generic"}
        await self.insert("schedules", fixed | columns)
        return fixed["id"]

    async def backfill(self, **columns: Any) -> uuid.UUID:
        key = uuid.uuid4().hex
        fixed = {"id": new_id(), "pipeline_id": PIPELINE, "key": key, "every": "day", "timezone": "UTC", "total": 9}
        moments = ", ".join(["now()"] * 2)
        columns = fixed | {"max_active_runs": 1} | columns
        names, places = ", ".join(columns), ", ".join(f"${place}" for place in range(1, len(columns) + 1))
        await self.db.execute(
            f"INSERT INTO backfills (start_at, end_at, {names}) VALUES ({moments}, {places})", *columns.values()
        )
        return fixed["id"]

    async def queue(self, count: int = 1, **columns: Any) -> list[int]:
        """Queue so many runs and return their places, from 0."""
        for _ in range(count):
            self.runs.append(new_id())
            await self.insert("runs", {"id": self.runs[-1], "pipeline_id": PIPELINE} | columns)
            await self.db.execute(
                "INSERT INTO changes (run_id, seq, kind, state, attempt) VALUES ($1, 1, 'run', 'queued', 0)",
                self.runs[-1],
            )
        return list(range(len(self.runs) - count, len(self.runs)))

    async def claim(self, *places: int, queues: Iterable[str] = ("default",)) -> list[int]:
        """Ring for these runs, and return the places of those that were claimed, in order."""
        return [self.runs.index(run.id) for run in await self.claimed(*places, queues=queues)]

    async def claimed(self, *places: int, queues: Iterable[str] = ("default",)) -> list[Claimed]:
        """Ring for these runs, and return what was claimed, oldest first."""
        rows = await self.db.fetch(
            "SELECT id, dispatch FROM runs WHERE id = ANY ($1)", [self.runs[place] for place in places]
        )
        rings = [Ring(row["id"], row["dispatch"]) for row in rows]
        claimed = await leases.claim(
            self.db, rings, runner_id=self.runner_id, versions={PIPELINE: "v1"}, queues=list(queues)
        )
        return sorted(claimed, key=lambda run: run.id)

    async def due(self, *, queues: Iterable[str] = ("default",)) -> list[int]:
        """Find what the sweeper would ring for, in its order."""
        rings = await leases.find_due(self.db, [PIPELINE], older_than_s=EVER_S, queues=list(queues))
        return [self.runs.index(ring.run_id) for ring in rings]

    async def end(self, *places: int) -> None:
        """End these runs well."""
        for place in places:
            await self.db.execute(
                "UPDATE runs SET state = 'success', finished_at = now(), lease_owner = NULL WHERE id = $1",
                self.runs[place],
            )

    async def release(self, *places: int) -> list[Ring]:
        return await leases.release(self.db, self.runner_id, [self.runs[place] for place in places])
