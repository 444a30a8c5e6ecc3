"""The directory in which one Penstock keeps what its embedded servers store, and who owns it now."""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Self

import msgspec

from schemas.errors import Conflict

# Linux allows 107 bytes and macOS 103; Postgres appends a name of 20 with its lock file.
LONGEST_SOCKET_DIRECTORY = 80
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs on a data directory and where its servers answer; the URLs are empty for a server that is elsewhere."""

    pid: int
    database_url: str = ""
    redis_url: str = ""


class DataDirectory:
    """A directory that belongs to one owner at a time; entering takes it, or raises Conflict naming who has it.

    `path` holds what lasts, `sockets` where the servers listen: inside `path`, or elsewhere when that is too long
    for a unix socket or holds a character that URLs treat specially.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        self.sockets = self.path / "run"
        self._lock = -1

    def __enter__(self) -> Self:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.path / "owner.json", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            owner = addresses(self.path)
            who = f" (process {owner.pid})" if owner else ""
            raise Conflict(f"{self.path} is already in use by another Penstock{who}; choose another --data") from None
        self.publish(Addresses(pid=os.getpid()))
        if len(os.fsencode(self.sockets)) > LONGEST_SOCKET_DIRECTORY or not PLAIN_PATH.fullmatch(str(self.sockets)):
            self.sockets = Path(tempfile.mkdtemp(prefix="penstock-", dir="/tmp"))
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        self.sockets.chmod(0o700)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.sockets, ignore_errors=True)
        os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def publish(self, what: Addresses) -> None:
        """Tell other processes of this user, such as `penstock doctor`, where the servers are."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, msgspec.json.encode(what), 0)

    def secret_key(self) -> str:
        """Return the key that signs links here: made at the first start, and kept, so that links stay valid."""
        path = self.path / "secret_key"
        if not path.exists():
            draft = path.with_suffix(".new")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(32))
            draft.rename(path)
        return path.read_text().strip()


def addresses(data_directory: str | Path) -> Addresses | None:
    """Return where the servers of a data directory answer now; None when nobody runs on it."""
    path = Path(data_directory).expanduser().resolve() / "owner.json"
    try:
        owner = msgspec.json.decode(path.read_bytes(), type=Addresses)
        os.kill(owner.pid, 0)
    except (OSError, msgspec.DecodeError):
        return None
    return owner
