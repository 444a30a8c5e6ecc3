"""Our Markdown pages as something that can be tried: their code blocks, and a terminal that types them."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.waiting import eventually

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(sys.executable).parent
UP = "penstock up"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (\S+\.py)\n")


class Block(msgspec.Struct, frozen=True):
    """A fenced block; `file` is the name that the first line of Python code gives."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        named = _FILE_NAME.match(self.text) if self.language == "python" else None
        return named and named[1]


def blocks(page: str) -> list[Block]:
    """Read the fenced blocks of a page, in order."""
    return [Block(*found) for found in _BLOCK.findall((ROOT / page).read_text())]


class Terminal:
    """Bash in a folder that looks like a checkout, and beside it a `penstock up` once that was typed.

    What a line sets is there for the next block. `printed` is all that came to stdout.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed = ""
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self._environ |= {"PATH": f"{PROGRAMS}:{self._environ['PATH']}", "HOME": str(folder), "TZ": "UTC"}
        self._variables = folder / ".variables"
        self._pipelines = folder / "pipelines"
        self._up: subprocess.Popen[str] | None = None
        (folder / "examples").symlink_to(ROOT / "examples")

    async def type(self, text: str) -> None:
        """Run the lines of a block; the first that fails ends it with an AssertionError."""
        lines = []
        for line in text.splitlines():
            if line.startswith(("make ", ". .venv/")):
                self._check(line)
            elif line.startswith(UP):
                self._start(line)
            else:
                lines.append(line)
        if self._up is not None:
            await eventually(self._all_pipelines_are_loaded, timeout=20)
        if lines:
            self.printed += self._bash("\n".join(lines))

    def save(self, file: str, text: str) -> None:
        """Write a file as a person does who copies a block."""
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def close(self) -> None:
        """Stop `penstock up`."""
        if self._up is not None:
            self._up.terminate()
            self._up.wait(30)
            self._up.stdout.close()  # type: ignore[union-attr]

    def _check(self, line: str) -> None:
        """What would install something is only looked at: these tests run in what it installs."""
        makefile = (ROOT / "Makefile").read_text()
        if line.startswith("make "):
            assert re.search(rf"^{shlex.split(line)[1]}:.*## ", makefile, re.MULTILINE), line
        else:
            assert line == ". .venv/bin/activate"
            assert "\nVENV = .venv\n" in makefile

    def _start(self, line: str) -> None:
        command = shlex.split(line)
        if "--pipelines" in command:
            self._pipelines = self.folder / command[command.index("--pipelines") + 1]
        with (self.folder / "up.log").open("w") as log:
            self._up = subprocess.Popen(
                [PROGRAMS / command[0], *command[1:], "--port", "0"],
                cwd=self.folder, env=self._environ, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        for printed in self._up.stdout or ():
            if printed.startswith("  export "):
                name, _, value = printed.removeprefix("  export ").strip().partition("=")
                self._environ[name] = value
            if printed.startswith("Ctrl-C"):
                return
        raise AssertionError((self.folder / "up.log").read_text())

    def _all_pipelines_are_loaded(self) -> bool:
        listed = msgspec.json.decode(self._bash("penstock pipelines ls --json"))
        return {path.name for path in self._pipelines.glob("*.py")} <= {pipeline["file"] for pipeline in listed}

    def _bash(self, script: str) -> str:
        self._variables.touch()
        whole = f"set -aeuo pipefail\n. {self._variables}\n{script}\nexport -p > {self._variables}\n"
        done = subprocess.run(
            ["bash", "-c", whole], cwd=self.folder, env=self._environ, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    """Open a terminal in an empty folder."""
    opened = Terminal(folder)
    try:
        yield opened
    finally:
        opened.close()


def console_script(*arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """Run the installed command and return what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    done = subprocess.run(
        [PROGRAMS / "penstock", *arguments], env=clean | (environ or {}), capture_output=True, text=True, check=False,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
