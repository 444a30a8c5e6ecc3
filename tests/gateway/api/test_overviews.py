"""Overviews: each says what the rows say, and none of them scans a large table."""

import asyncio
import datetime as dt
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

import migrations
from gateway import lineage
from gateway.bench import plans
from gateway.bench.history import History, write
from gateway.bench.plans import MODES, Eavesdropper
from gateway.bench.questions import questions
from gateway.embedded import EmbeddedServers
from schemas.overviews import Edge, RelatedRun, Starter
from schemas.pipelines import Block, Graph
from schemas.states import Origin, RunState
from schemas.store import search, tallies
from schemas.store.db import Database, prepare
from tests.faults import Connection, trigger
from tests.problems import problem
from tests.system import Json, Penstock

HISTORY = History(runs=12_000, events=24_000, days=4, pipelines=5)
MOST_BLOCKS = 12_000


@pytest.fixture(scope="module")
async def old_url(servers: EmbeddedServers) -> AsyncIterator[str]:
    """A database with a history, whose hours are closed."""
    name = f"history_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(servers.database_url)
    await admin.execute(f"CREATE DATABASE {name}")
    url = servers.database_url.replace("/penstock?", f"/{name}?", 1)
    await migrations.apply(url)
    connection = await asyncpg.connect(url)
    await write(connection, HISTORY)
    await connection.close()
    yield url
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture(scope="module")
async def old(
    servers: EmbeddedServers, old_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Penstock]:
    """A gateway over that history, without a runner."""
    directory = tmp_path_factory.mktemp("old")
    async with Penstock(
        database_url=old_url, redis_url=servers.redis_url, directory=directory, pipelines=Path(__file__).parent
    ) as system:
        await system.start_gateway()
        yield system


@pytest.fixture
async def old_connection(old_url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(old_url)
    await prepare(opened)
    yield opened
    await opened.close()


async def ask(penstock: Penstock, path: str, **params: object) -> Json:
    answer = await penstock.client.get(path, params={name: str(value) for name, value in params.items()})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def close_hours(url: str) -> int:
    db = Database(url, size=2, name="tests")
    await db.open()
    closed = 0
    while now := await tallies.close(db, limit=24):
        closed += now
    await db.close()
    return closed


async def counted(connection: Connection, pipeline_id: str | None = None) -> dict[str, Counter[str]]:
    """Count the runs of each day the long way."""
    rows = await connection.fetch(
        """SELECT (uuid_hour(id) AT TIME ZONE 'UTC')::date::text AS day, state, count(*) FROM runs
           WHERE $1::text IS NULL OR pipeline_id = $1 GROUP BY 1, 2""",
        pipeline_id,
    )
    days: dict[str, Counter[str]] = {}
    for day, state, count in rows:
        days.setdefault(day, Counter())[state] += count
    return days


def shown(calendar: Json) -> dict[str, Counter[str]]:
    """Read a calendar, and check that it has every day once and adds up."""
    dates = [dt.date.fromisoformat(day["date"]) for day in calendar["items"]]
    assert dates == [dates[0] + dt.timedelta(days=number) for number in range(len(dates))]
    assert dates[-1] == dt.datetime.now(dt.UTC).date()
    states = [state.value for state in RunState]
    assert all(day["total"] == sum(day[state] for state in states) for day in calendar["items"])
    return {day["date"]: Counter({s: day[s] for s in states if day[s]}) for day in calendar["items"] if day["total"]}


async def test_a_calendar_shows_the_same_before_and_after_hours_are_closed(
    old: Penstock, old_connection: Connection, old_url: str
) -> None:
    truth, of_one = await counted(old_connection), await counted(old_connection, "history_3")

    assert shown(await ask(old, "/v1/calendar", days=30)) == truth
    closed = await asyncio.gather(close_hours(old_url), close_hours(old_url))
    assert sum(closed) >= 24 * (HISTORY.days - 1)
    calendar = await ask(old, "/v1/calendar")
    assert len(calendar["items"]) == 90
    assert shown(calendar) == truth
    assert shown(await ask(old, "/v1/calendar", pipeline_id="history_3")) == of_one
    assert len((await ask(old, "/v1/calendar", days=1))["items"]) == 1
    assert await close_hours(old_url) == 0


async def test_an_hour_with_an_active_run_stays_open_and_a_marked_run_is_counted_anew(
    db: Database, connection: Connection, database_url: str
) -> None:
    await write(connection, History(runs=200, events=200, days=3, pipelines=2))
    run_id = await connection.fetchval("SELECT id FROM runs WHERE state = 'success' ORDER BY id OFFSET 20 LIMIT 1")
    hour = await connection.fetchval("SELECT uuid_hour($1)", run_id)
    await connection.execute(
        "UPDATE runs SET state = 'queued', finished_at = NULL, marked_at = now() WHERE id = $1", run_id
    )
    await close_hours(database_url)
    assert await connection.fetchval("SELECT count(*) FROM tallies WHERE hour = $1", hour) == 0
    await connection.execute("UPDATE runs SET state = 'success', finished_at = now() WHERE id = $1", run_id)
    assert await close_hours(database_url) == 1

    async def counts() -> list[tuple[int, int]]:
        found = [one for one in await tallies.hours(db, hour) if one.hour == hour]
        return [(one.success, one.failed) for one in found]

    ((success, failed),) = await counts()
    await connection.execute(
        "UPDATE runs SET state = 'failed', error = '{}', marked_at = clock_timestamp() WHERE id = $1", run_id
    )
    assert await counts() == [(success - 1, failed + 1)]


async def test_a_dashboard_says_what_the_rows_say(old: Penstock, old_connection: Connection) -> None:
    dashboard = await ask(old, "/v1/dashboard")
    days = await counted(old_connection)
    today = dt.datetime.now(dt.UTC).date()
    since = dt.datetime.combine(today - dt.timedelta(days=6), dt.time(), dt.UTC)
    failures = await old_connection.fetch("SELECT number FROM runs WHERE state = 'failed' ORDER BY id DESC LIMIT 10")
    failing = await old_connection.fetch(
        """SELECT pipeline_id, count(*) AS failed FROM runs WHERE state = 'failed' AND id >= uuid_floor($1)
           GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5""",
        since,
    )

    assert (dashboard["running"], dashboard["queued"]) == (0, 50)
    assert dashboard["runs_today"] == days.get(str(today), Counter()).total()
    assert dashboard["runs_yesterday"] == days[str(today - dt.timedelta(days=1))].total()
    assert 0.9 < dashboard["success_rate"] < 1
    assert [failure["number"] for failure in dashboard["last_failures"]] == [row["number"] for row in failures]
    assert dashboard["last_failures"][0]["error"] == {"type": "ValueError", "message": "made up"}
    assert [day["total"] for day in dashboard["trend"]] == [
        days.get(str(today - dt.timedelta(days=ago)), Counter()).total() for ago in range(6, -1, -1)
    ]
    assert dashboard["top_failing"] == [dict(row) for row in failing]
    assert dashboard["next_fires"] == []


async def test_the_installation_is_described(shared: Penstock) -> None:
    system = await ask(shared, "/v1/system")

    assert {table["name"] for table in system["tables"]} >= {"events", "runs", "logs"}
    assert system["database_bytes"] > sum(table["bytes"] for table in system["tables"]) > 0
    assert (len(system["runners"]), system["runners"][0]["is_alive"], system["doorbell"]) == (1, True, "up")
    assert system["runners"][0]["heartbeat_age_s"] < 5
    assert dt.datetime.fromisoformat(system["started_at"]) < dt.datetime.now(dt.UTC)


async def test_a_text_is_found_in_events_notes_and_keys_page_after_page(old: Penstock) -> None:
    """Beyond the candidates of a page only the cursor leads on; a page may be empty on the way."""
    for q in ("CUSTOMER-0", "key-7", "note of run 7", "nowhere"):
        found: list[Json] = []
        cursor: dict[str, str] = {}
        pages = 0
        while True:
            page = await ask(old, "/v1/runs", q=q, limit=200, **cursor)
            found += page["items"]
            pages += 1
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        texts = [f"{run['event_variables']} {run['run_key']} {run['note']}" for run in found]
        assert all(q.lower() in text.lower() for text in texts)
        assert [run["number"] for run in found] == sorted({run["number"] for run in found}, reverse=True)
        assert pages >= HISTORY.runs / 1000
        assert bool(found) is (q != "nowhere")


async def test_one_page_looks_past_what_does_not_match(shared: Penstock) -> None:
    wanted = (await shared.client.post("/v1/pipelines/quick/runs", json={"run_key": f"key {uuid.uuid4()}"})).json()
    for _ in range(5):
        await shared.client.post("/v1/pipelines/quick/runs")

    page = await ask(shared, "/v1/runs", pipeline_id="quick", q=wanted["run_key"], limit=1)

    assert [run["id"] for run in page["items"]] == [wanted["id"]]


async def test_runs_are_found_by_origin_and_parent(shared: Penstock) -> None:
    parent = await trigger(shared, "quick")
    for params in ({"parent_id": parent}, {"origin": "rerun", "parent_id": parent}):
        assert (await ask(shared, "/v1/runs", **params)) == {"items": [], "next_cursor": None}
    assert parent in [run["id"] for run in (await ask(shared, "/v1/runs", origin="api"))["items"]]


async def test_no_question_scans_a_large_table(old_connection: Connection) -> None:
    run = await old_connection.fetchrow("SELECT * FROM runs WHERE event_id IS NOT NULL ORDER BY id LIMIT 1")
    parent = await old_connection.fetchval("SELECT parent_id FROM runs WHERE origin = 'run' LIMIT 1")
    asked = questions(run_id=run["id"], schedule_id=run["schedule_id"], event_id=run["event_id"], parent_id=parent)
    for name, question in asked.items():
        heard = Eavesdropper(old_connection)
        await question(heard)
        assert heard.heard
        for sql, arguments in heard.heard:
            for mode in MODES:
                plan = await plans.executed(old_connection, sql, arguments, mode=mode)
                plans.check(name, plan, most_blocks=MOST_BLOCKS)


async def test_search_finds_each_kind_by_what_people_remember(shared: Penstock) -> None:
    word = f"Remember{uuid.uuid4().hex[:8]}"
    schedule = await shared.schedule("quick", name=f"{word} schedule")
    token = (await shared.client.post(f"/v1/schedules/{schedule['id']}/tokens")).json()["url"]
    event = (await shared.deliver(token, idempotency_key=f"{word}-delivery")).json()["event_id"]
    noted = (await shared.client.post("/v1/pipelines/quick/runs", json={"note": f"a note with {word}"})).json()
    keyed = (await shared.client.post("/v1/pipelines/quick/runs", json={"run_key": f"{word}-key"})).json()

    async def found(q: str, **params: object) -> list[tuple[str, str]]:
        return [(hit["type"], hit["id"]) for hit in (await ask(shared, "/v1/search", q=q, **params))["items"]]

    assert await found(word.lower()) == [
        ("schedule", schedule["id"]), ("run", keyed["id"]), ("run", noted["id"]), ("event", event)
    ]  # fmt: skip
    assert await found(word, limit=2) == [("schedule", schedule["id"]), ("run", keyed["id"])]
    assert ("pipeline", "quick") in await found("QUIC")
    assert ("run", noted["id"]) in await found(str(noted["number"]))
    assert await found(noted["id"]) == [("run", noted["id"])]
    assert await found(event) == [("event", event)]
    assert await found(f"{word}-delivery") == [("event", event)]
    assert await found(f"{word[:4]}%{word[-2:]}") == []
    (hit,) = (await ask(shared, "/v1/search", q=noted["id"]))["items"]
    assert (await shared.client.get(hit["url"])).json()["id"] == noted["id"]


async def test_a_senders_own_id_is_found_at_any_age(shared: Penstock, shared_connection: Connection) -> None:
    secret, word = "a-secret_Token", str(uuid.uuid4().int)
    hook = await shared.hook("quick", source="telegram", source_config={"secrets": [secret]})
    headers = {"x-telegram-bot-api-secret-token": secret, "content-type": "application/json"}
    event = (await shared.deliver(hook, b'{"update_id": %s}' % word.encode(), **headers)).json()["event_id"]

    none_of_the_newest = 0
    found = await shared_connection.fetch(search.SQL["events"], word, None, [], search.SCHEDULES, none_of_the_newest, 5)

    assert [(str(row["id"]), row["dedupe_key"]) for row in found] == [(event, f"telegram:{word}")]


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/v1/calendar", {"days": "0"}),
        ("/v1/calendar", {"days": "366"}),
        ("/v1/calendar", {"days": "x"}),
        ("/v1/search", {}),
        ("/v1/search", {"q": " "}),
        ("/v1/search", {"q": "x" * 201}),
        ("/v1/search", {"q": "x", "limit": "101"}),
        ("/v1/dashboard", {"days": "1"}),
        ("/v1/runs", {"origin": "heaven"}),
        ("/v1/runs", {"parent_id": "1"}),
    ],
)
async def test_a_wrong_parameter_is_named(path: str, params: dict[str, str], shared: Penstock) -> None:
    assert "parameter" in problem(await shared.client.get(path, params=params), 422, "invalid")


async def test_what_is_not_there_is_not_found(shared: Penstock) -> None:
    for path in ("/v1/calendar?pipeline_id=nobody", "/v1/lineage?pipeline_id=nobody", "/v1/runs/0/lineage"):
        problem(await shared.client.get(path), 404, "not_found")


async def test_lineage_leads_from_schedules_to_blocks(shared: Penstock) -> None:
    schedule = await shared.schedule("quick", name="the lineage")
    whole, one = await ask(shared, "/v1/lineage"), await ask(shared, "/v1/lineage", pipeline_id="quick")

    starts = {"from": f"schedule:{schedule['id']}", "to": "pipeline:quick", "type": "starts"}
    runs = {"from": "pipeline:quick", "to": "block:quick/first", "type": "runs"}
    assert starts in whole["edges"]
    assert starts in one["edges"]
    assert runs in one["edges"]
    assert {"id": "block:quick/first", "type": "block", "name": "first", "pipeline_id": "quick"} in one["nodes"]
    assert "pipeline:steps" in {node["id"] for node in whole["nodes"]} - {node["id"] for node in one["nodes"]}


async def test_the_lineage_of_a_run_goes_back_to_its_event_and_forth_to_what_came_of_it(
    shared: Penstock, shared_connection: Connection
) -> None:
    first = await shared.run(await shared.delivered_run(await shared.hook("quick")))
    made = []
    for origin, parent, firsts in (("resume", 0, first["id"]), ("run", 1, None)):
        made.append(
            await shared_connection.fetchval(
                """INSERT INTO runs (id, pipeline_id, origin, parent_id, first_id, state, finished_at)
                   VALUES (gen_random_uuid(), 'quick', $1, $2, $3, 'success', now()) RETURNING id""",
                origin,
                [uuid.UUID(first["id"]), *made][parent],
                firsts,
            )
        )
    names = [f"event:{first['event_id']}", f"run:{first['id']}", f"run:{made[0]}", f"run:{made[1]}"]

    for start in (first["id"], made[0], made[1]):
        drawn = await ask(shared, f"/v1/runs/{start}/lineage")
        assert {node["id"] for node in drawn["nodes"]} == set(names)
        assert sorted((edge["from"], edge["to"], edge["type"]) for edge in drawn["edges"]) == sorted(
            zip(names, names[1:], ("starts", "resumes", "triggers"), strict=False)
        )
    await shared_connection.execute("DELETE FROM runs WHERE id = ANY ($1::uuid[])", made)  # they have no history


def test_datasets_join_pipelines_that_know_nothing_of_each_other() -> None:
    graphs = {
        "makes": Graph((Block(id="load", writes=("orders",)),)),
        "uses": Graph((Block(id="report", reads=("orders",)),)),
        "alone": Graph((Block(id="work"),)),
        "broken": None,
    }
    starter = Starter(id=uuid.UUID(int=1), name="nightly", pipeline_id="makes")
    whole = lineage.of_pipelines(graphs, [starter], [("uses", "broken"), ("gone", "uses")])
    part = lineage.connected_to("broken", whole)

    assert part.edges == [
        Edge("block:makes/load", "dataset:orders", "writes"),
        Edge("dataset:orders", "block:uses/report", "reads"),
        Edge("pipeline:makes", "block:makes/load", "runs"),
        Edge("pipeline:uses", "block:uses/report", "runs"),
        Edge("pipeline:uses", "pipeline:broken", "triggers"),
        Edge(f"schedule:{starter.id}", "pipeline:makes", "starts"),
    ]
    assert {node.id for node in whole.nodes} - {node.id for node in part.nodes} == {
        "pipeline:alone",
        "block:alone/work",
    }


def test_a_run_whose_parent_was_purged_still_has_its_event() -> None:
    run = RelatedRun(
        id=uuid.UUID(int=2), number=2, pipeline_id="a", state=RunState.SUCCESS, origin=Origin.RERUN,
        parent_id=uuid.UUID(int=1), event_id=uuid.UUID(int=9), created_at=dt.datetime.now(dt.UTC),
    )  # fmt: skip
    drawn = lineage.of_runs([run], is_complete=True)

    assert [edge.type for edge in drawn.edges] == ["starts"]
