"""What many runs say together: calendar, dashboard, lineage, search, the state of the installation."""

import datetime as dt
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Literal

from gateway import delivery_ids, lineage
from gateway.urls import Urls
from schemas.overviews import Dashboard, Day, Hit, Hour, Lineage, RelatedRun, RunnerState, RunTotals, System
from schemas.queue import Doorbell
from schemas.store import lineage as relations
from schemas.store import overviews, pipelines, runs, search, tallies
from schemas.store.db import Database

TREND_DAYS = 7
FAILURES = 10
TOP_FAILING = 5
NEXT_FIRES = 10
LINEAGE_DAYS = 30
LARGEST_LINEAGE = 2000
NEWEST_TRIGGERS = 1000
LARGEST_FAMILY = 200
LONGEST_DESCRIPTION = 120
Kind = Literal["pipeline", "schedule", "run", "event"]


class Overviews:
    """Reads what belongs to no single run; nothing here scans a large table."""

    def __init__(self, db: Database, doorbell: Doorbell, *, urls: Urls) -> None:
        self._db = db
        self._doorbell = doorbell
        self._urls = urls
        self._started_at = dt.datetime.now(dt.UTC)

    async def calendar(self, days: int, *, pipeline_id: str | None) -> list[Day]:
        """Count the runs of each of the last days, the oldest first, also of days without runs; raises NotFound."""
        if pipeline_id is not None:
            await pipelines.get(self._db, pipeline_id)
        return await self._days(days, pipeline_id)

    async def dashboard(self) -> Dashboard:
        """Read everything that a first look at an installation wants to know."""
        trend = await self._days(TREND_DAYS, None)
        queue = await overviews.queue(self._db)
        return Dashboard(
            running=queue.running,
            queued=queue.queued,
            oldest_queued_at=queue.oldest_queued_at,
            runs_today=trend[-1].total,
            runs_yesterday=trend[-2].total,
            success_rate=_success_rate(await self.last_hours()),
            rejected_today=await overviews.count_rejected(self._db, _midnight(trend[-1].date)),
            last_failures=await overviews.last_failures(self._db, limit=FAILURES),
            trend=trend,
            top_failing=await tallies.failing(self._db, _midnight(trend[0].date), limit=TOP_FAILING),
            next_fires=await overviews.next_fires(self._db, limit=NEXT_FIRES),
        )

    async def last_hours(self) -> list[Hour]:
        """Count the runs of each of the last 24 hours that has any, by their state now; the last is not over."""
        hour = _now().replace(minute=0, second=0, microsecond=0)
        return await tallies.hours(self._db, hour - dt.timedelta(hours=23))

    async def totals(self, pipeline_ids: Sequence[str]) -> dict[str, RunTotals]:
        """Count the runs of each of these pipelines by their state; those that were deleted may still count."""
        return await tallies.totals(self._db, pipeline_ids)

    async def runners(self) -> list[RunnerState]:
        """Read the runners that are registered."""
        return await overviews.runners(self._db)

    async def lineage(self, *, pipeline_id: str | None) -> Lineage:
        """Draw schedules, pipelines, blocks and datasets, all or what hangs together with one; raises NotFound."""
        if pipeline_id is not None:
            await pipelines.get(self._db, pipeline_id)
        graphs = await relations.graphs(self._db, limit=LARGEST_LINEAGE)
        starters = await relations.starters(self._db, limit=LARGEST_LINEAGE)
        since = _now() - dt.timedelta(days=LINEAGE_DAYS)
        triggers = await relations.triggers(self._db, since, limit=NEWEST_TRIGGERS)
        whole = lineage.of_pipelines(graphs, starters, triggers)
        if LARGEST_LINEAGE in (len(graphs), len(starters)):
            whole = Lineage(whole.nodes, whole.edges, is_complete=False)
        return whole if pipeline_id is None else lineage.connected_to(pipeline_id, whole)

    async def lineage_of_run(self, key: str) -> Lineage:
        """Draw what a run came from, back to its event, and the runs that came of it; raises NotFound."""
        run_id = await runs.find_id(self._db, key)
        family: list[RelatedRun] = await relations.ancestors(self._db, run_id, limit=LARGEST_FAMILY)
        parents = [run_id]
        while parents and len(family) < LARGEST_FAMILY:
            found = await relations.children(self._db, parents, limit=LARGEST_FAMILY - len(family))
            family += found
            parents = [run.id for run in found]
        return lineage.of_runs(family, is_complete=len(family) < LARGEST_FAMILY)

    async def search(self, q: str, *, limit: int) -> list[Hit]:
        """Find pipelines, then schedules, runs and events, the newest first; one kind does not crowd out the others."""
        kinds = [
            await self._find_pipelines(q, limit),
            await self._find_schedules(q, limit),
            await self._find_runs(q, limit),
            await self._find_events(q, limit),
        ]
        return _share(kinds, limit)

    async def system(self) -> System:
        """Describe the installation."""
        queue = await overviews.queue(self._db)
        database_bytes, count = await overviews.database(self._db)
        oldest = queue.oldest_queued_at
        return System(
            version=version("penstock"),
            started_at=self._started_at,
            database_bytes=database_bytes,
            tables=await overviews.sizes(self._db),
            pipelines=count,
            active_runs=queue.running,
            queued_runs=queue.queued,
            oldest_queued_age_s=None if oldest is None else max(0.0, (_now() - oldest).total_seconds()),
            runners=await overviews.runners(self._db),
            doorbell="up" if self._doorbell.is_healthy else "down",
        )

    async def _days(self, count: int, pipeline_id: str | None) -> list[Day]:
        """Read the counts of the last days, also of those that have none."""
        today = _now().date()
        dates = [today - dt.timedelta(days=ago) for ago in range(count - 1, -1, -1)]
        found = {day.date: day for day in await tallies.days(self._db, dates[0], pipeline_id=pipeline_id)}
        return [found.get(date) or Day(date=date) for date in dates]

    async def _find_pipelines(self, q: str, limit: int) -> list[Hit]:
        return [
            self._hit("pipeline", row["id"], row["id"], row["doc"], path="pipelines")
            for row in await search.find_pipelines(self._db, q, limit=limit)
        ]

    async def _find_schedules(self, q: str, limit: int) -> list[Hit]:
        return [
            self._hit("schedule", str(row["id"]), row["name"], f"starts {row['pipeline_id']}", path="schedules")
            for row in await search.find_schedules(self._db, q, limit=limit)
        ]

    async def _find_runs(self, q: str, limit: int) -> list[Hit]:
        return [
            self._hit(
                "run",
                str(row["id"]),
                f"#{row['number']} of {row['pipeline_id']}",
                " · ".join(filter(None, (row["state"], row["run_key"], row["note"]))),
                path="runs",
            )
            for row in await search.find_runs(self._db, q, limit=limit)
        ]

    async def _find_events(self, q: str, limit: int) -> list[Hit]:
        return [
            self._hit(
                "event",
                str(row["id"]),
                row["event_type"] or row["source"],
                " · ".join(filter(None, (row["verdict"], row["dedupe_key"]))),
                path="events",
            )
            for row in await search.find_events(self._db, q, delivery_ids.spellings(q), limit=limit)
        ]

    def _hit(self, kind: Kind, key: str, name: str, description: str, *, path: str) -> Hit:
        line = " ".join(description.split())
        shown = line if len(line) <= LONGEST_DESCRIPTION else line[: LONGEST_DESCRIPTION - 1] + "…"
        return Hit(type=kind, id=key, name=name, description=shown, url=self._urls.resource(path, key))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _success_rate(hours: Iterable[Hour]) -> float | None:
    counted = [(hour.success, hour.success + hour.failed) for hour in hours]
    ended = sum(both for _, both in counted)
    return sum(success for success, _ in counted) / ended if ended else None


def _share(kinds: Sequence[Sequence[Hit]], limit: int) -> list[Hit]:
    """Give every kind its turn until there are enough, then put those of one kind together again."""
    turns = sorted((turn, order) for order, kind in enumerate(kinds) for turn in range(len(kind)))[:limit]
    return [kinds[order][turn] for order, turn in sorted((order, turn) for turn, order in turns)]
