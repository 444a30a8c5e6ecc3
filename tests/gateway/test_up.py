"""`penstock up` as a person uses it: a process in a folder, a terminal's Ctrl-C, and what is left afterwards."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.cli.client import Client, path
from gateway.cli.environment import answers, environment
from gateway.cli.up import claim_port
from schemas.errors import Conflict
from schemas.settings import local_url
from tests.processes import processes_at_work_in, runs
from tests.waiting import eventually

ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
STOPS_WITHIN_S = 20


class Up:
    """A running `penstock up`; `introduction` is what it said on stdout until it was up."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.introduction = ""
        assert process.stdout is not None
        for line in process.stdout:
            self.introduction += line
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError(f"it did not come up:\n{self.introduction}{log.read_text()}")

    @property
    def url(self) -> str:
        found = re.search(r"up at (http\S+)", self.introduction)
        assert found
        return found[1]

    @property
    def key(self) -> str | None:
        found = re.search(r"PENSTOCK_API_KEY=(psk_\S+)", self.introduction)
        return found and found[1]

    def processes(self) -> list[int]:
        """The processes that it has started, and theirs."""
        return descendants(self.process.pid)

    def part(self, words: str) -> int | None:
        """The process of its own whose command line holds these words."""
        for pid in children(self.process.pid):
            with contextlib.suppress(OSError):
                if words in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
                    return pid
        return None


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(word)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()
        ]
    return []


def descendants(pid: int) -> list[int]:
    return [found for child in children(pid) for found in (child, *descendants(child))]


StartUp = Callable[..., contextlib.AbstractContextManager[Up]]


@pytest.fixture
def starting(tmp_path: Path) -> StartUp:
    """Give a function that runs `penstock up` on a free port in a folder of this test, and ends it afterwards."""
    log = tmp_path / "stderr.txt"

    @contextlib.contextmanager
    def start(*flags: str, **environ: str) -> Iterator[Up]:
        command = [sys.executable, "-P", "-m", "gateway", "up", "--port", "0", *flags]
        with open(log, "ab") as stderr:
            process = subprocess.Popen(
                command, cwd=tmp_path, env=ENVIRON | environ, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        with process:
            try:
                yield Up(process, log)
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOPS_WITHIN_S)
                process.kill()

    return start


async def test_up_serves_until_ctrl_c_and_leaves_nothing_behind(starting: StartUp, tmp_path: Path) -> None:
    with starting() as up:
        assert answers(up.url, "/health/ready")
        started = up.processes()
        assert len(started) >= 4
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(STOPS_WITHIN_S) == 0
    assert not any(map(runs, started))
    assert processes_at_work_in(tmp_path / ".penstock") == []


async def test_the_admin_key_is_made_and_shown_once(starting: StartUp) -> None:
    with starting() as first:
        assert first.key
        assert "items" in Client(first.url, first.key).request("GET", path("schedules"))
    with starting() as second:
        assert second.key is None
        assert "items" in Client(second.url, first.key).request("GET", path("schedules"))


async def test_a_newcomer_gets_an_example_to_run(starting: StartUp, tmp_path: Path) -> None:
    with starting() as up:
        assert (tmp_path / "pipelines" / "hello.py").exists()
        client = Client(up.url, up.key or "")
        await eventually(lambda: client.request("GET", path("pipelines"))["items"], timeout=20)


async def test_a_pipelines_folder_that_exists_is_left_alone(starting: StartUp, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with starting("--pipelines", "mine") as up:
        assert str(tmp_path / "mine") in up.introduction
    assert list((tmp_path / "mine").glob("*.py")) == []
    assert not (tmp_path / "pipelines").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_nothing_outlives_an_up_that_is_killed(starting: StartUp, tmp_path: Path) -> None:
    with starting() as up:
        started = up.processes()
        up.process.kill()
        up.process.wait()
        await eventually(lambda: not any(map(runs, started)), timeout=10)
        assert processes_at_work_in(tmp_path / ".penstock") == []


@pytest.mark.parametrize("part", ["-m gateway gateway", "-m runner", "bin/postgres -D", "valkey-server"])
async def test_a_part_that_is_killed_comes_back(starting: StartUp, part: str) -> None:
    with starting() as up:
        victim = await eventually(lambda: up.part(part))
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: up.part(part) not in (None, victim), timeout=20)
        await eventually(lambda: answers(up.url, "/health/ready"), timeout=20)


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Conflict, match=f"cannot listen on 127.0.0.1:{port}"):
            claim_port("127.0.0.1", port)
    assert claim_port("127.0.0.1", port) == port


def test_the_second_up_on_a_data_directory_is_refused(starting: StartUp, tmp_path: Path) -> None:
    with starting() as up:
        command = [sys.executable, "-P", "-m", "gateway", "up", "--port", "0"]
        second = subprocess.run(command, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, check=False)
        assert second.returncode == 5
        assert f"already in use by another Penstock (process {up.process.pid})" in second.stderr


def test_doctor_finds_what_up_has_started(starting: StartUp, tmp_path: Path) -> None:
    with starting() as up:
        command = [sys.executable, "-P", "-m", "gateway", "doctor", "--json"]
        environ = ENVIRON | {"PENSTOCK_URL": up.url, "PENSTOCK_API_KEY": up.key or "", "HOME": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=False)
    checks = {check["name"]: check["verdict"] for check in msgspec.json.decode(done.stdout)["checks"]}
    assert set(checks.values()) == {"ok"}, done.stdout
    assert {"Postgres", "durability", "migrations", "Redis", "gateway", "API key"} <= set(checks)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("example.org", "http://example.org:80"),
    ],
)
def test_the_url_of_an_address(host: str, url: str) -> None:
    assert local_url(host, 80) == url


def test_a_flag_goes_before_a_variable_and_before_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PORT", "1")
    monkeypatch.setenv("PENSTOCK_HOST_FILE", "/nowhere")
    given = environment(port=2, host="127.0.0.2", data=None)
    assert given["PENSTOCK_PORT"] == "2"
    assert given["PENSTOCK_HOST"] == "127.0.0.2"
    assert "PENSTOCK_HOST_FILE" not in given
    assert "PENSTOCK_DATA" not in given


def test_the_demo_shows_a_run_to_its_end_and_cleans_up(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "gateway", "demo"]
    environ = ENVIRON | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("signed delivery", "202", "running", "success", "curl "):
        assert words in done.stdout
    assert "\x1b" not in done.stdout
    assert "pst_" not in re.sub(r"pst_.{4}…", "", done.stdout + done.stderr)
    assert list(tmp_path.iterdir()) == []
