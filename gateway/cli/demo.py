"""`penstock demo`: a signed GitHub push becomes a finished run before your eyes, then everything is gone again."""

import contextlib
import hashlib
import hmac
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urljoin

import rich_click as click
from rich.console import Console

from gateway.cli.client import Client, RunFailed, path, read_json
from gateway.cli.live import watch
from gateway.cli.output import Output, duration
from gateway.cli.up import claim_port, example
from gateway.leash import leashed
from schemas.errors import NotFound, PenstockError
from schemas.settings import PREFIX
from schemas.states import RunState

PIPELINE = "github_push"
PAYLOAD = f"payloads/{PIPELINE}.json"
RUN_WITHIN_S = 60.0
LOADED_WITHIN_S = 20.0
STOPPED_WITHIN_S = 20.0
TAIL_LINES = 25

YOUR_OWN = """
The demo's servers and data are gone. For your own, in one terminal:

  {penstock} up

and in another, after the `export` lines that it prints the first time:

  {penstock} schedules create --pipeline hello --name first
  HOOK=$({penstock} tokens create 1 | awk '/^url/ {{print $2}}')
  curl -d '{{"name": "Ada"}}' "$HOOK"
  {penstock} runs watch 1
"""


@click.command()
def demo() -> None:
    """Show a webhook become a finished run, in a minute.

    Starts what `penstock up` starts, in a temporary directory and on a free port, sends one signed GitHub push and
    shows what becomes of it. Everything is stopped and removed at the end.
    """
    signal.signal(signal.SIGTERM, _leave)
    console = Output().console()
    console.print("[bold]Penstock demo[/]: a signed GitHub push becomes a finished run.\n")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="penstock-demo-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "demo.log"
        try:
            with _started(Path(folder), log, console) as client:
                _show(client, console)
        except PenstockError as error:
            raise PenstockError(f"the demo failed: {error.message}\n\n{_tail(log)}") from error
    console.print(f"\nFrom nothing to here in {duration((time.monotonic() - begun) * 1000)}.")
    console.print(YOUR_OWN.format(penstock=_program()), markup=False, soft_wrap=True)


@contextlib.contextmanager
def _started(folder: Path, log: Path, console: Console) -> Iterator[Client]:
    """Run `penstock up` until the end of the block; what it says goes to the log."""
    (folder / "pipelines").mkdir()
    shutil.copy(example(f"{PIPELINE}.py"), folder / "pipelines")
    flags = ["--port", str(claim_port("127.0.0.1", 0)), "--data", str(folder), "--pipelines", str(folder / "pipelines")]
    begun = time.monotonic()
    with open(log, "ab") as stderr, console.status("Starting Postgres, Redis, gateway and runner"):
        process = subprocess.Popen(  # noqa: S603 (our own command line)
            leashed([sys.executable, "-P", "-m", "gateway", "up", *flags], death_signal=signal.SIGTERM),
            env={name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,  # the terminal's Ctrl-C is for us alone
        )
        try:
            client = _read_introduction(process)
        except BaseException:
            _stop(process)
            raise
    try:
        _tell(console, "Postgres, Redis, gateway and runner started", f"{client.origin}, {_since(begun)}")
        yield client
    finally:
        _stop(process)


def _read_introduction(process: subprocess.Popen[str]) -> Client:
    """Learn the URL and the key from the words that `penstock up` has for a person, once it is up."""
    words: dict[str, str] = {}
    for line in process.stdout or ():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals:
            words[name] = value
        if line.startswith("Ctrl-C"):
            return Client(words["PENSTOCK_URL"], words["PENSTOCK_API_KEY"])
    raise PenstockError("`penstock up` ended before it was up")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN_S)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _show(client: Client, console: Console) -> None:
    with console.status("Loading the pipeline"):
        _wait_for_pipeline(client)
    _tell(console, f"pipeline {PIPELINE} loaded", f"examples/{PIPELINE}.py")
    secret = secrets.token_hex(20)
    config = {"source": "github", "source_config": {"secrets": [secret]}}
    body = {"pipeline_id": PIPELINE, "name": "demo", "kind": "api", **config}
    schedule = client.request("POST", path("schedules"), body=body)
    token = client.request("POST", path("schedules", schedule["id"], "tokens"), body={"label": "demo"})
    _tell(console, "schedule created, with one token", f"only its holder can fire it: {_shorten(token['token'])}")
    run = _deliver(client, urljoin(client.origin, token["url"]), secret, console)
    console.print()
    state = watch(client, run, console=console, timeout=RUN_WITHIN_S)
    if state is not RunState.SUCCESS:
        raise RunFailed(f"the run ended as {state}")


def _wait_for_pipeline(client: Client) -> None:
    deadline = time.monotonic() + LOADED_WITHIN_S
    while True:
        try:
            client.request("GET", path("pipelines", PIPELINE))
        except NotFound:
            if time.monotonic() > deadline:
                raise PenstockError(f"no runner has loaded {PIPELINE} within {LOADED_WITHIN_S:.0f} s") from None
            time.sleep(0.05)
        else:
            return


def _deliver(client: Client, url: str, secret: str, console: Console) -> dict[str, Any]:
    """Send the push as GitHub would, and return the run that came of it."""
    body = example(PAYLOAD).read_bytes()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/demo",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }
    begun = time.monotonic()
    answer = client.deliver(url, body, headers)
    if answer.status != 202:
        raise client.problem(answer)
    _tell(console, f"signed delivery of {len(body)} bytes accepted", f"202 after its commit, {_since(begun)}")
    run: dict[str, Any] = read_json(answer.content, client.origin)["runs"][0]
    return run


def _tell(console: Console, what: str, detail: str) -> None:
    console.print(f"[green]✔[/] {what}  [dim]{detail}[/]", soft_wrap=True)


def _since(begun: float) -> str:
    return duration((time.monotonic() - begun) * 1000)


def _shorten(token: str) -> str:
    return f"{token[:8]}…"


def _program() -> str:
    """Return how a person calls us from here."""
    program = Path(sys.prefix) / "bin" / "penstock"
    if shutil.which("penstock") or not program.exists():
        return "penstock"
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(["The end of its log:", *lines[-TAIL_LINES:]])


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)
