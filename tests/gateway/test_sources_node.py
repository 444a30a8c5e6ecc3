"""GitHub's and Shopify's own libraries, in JavaScript: GitHub's signs all the examples that GitHub publishes.

They are installed with npm into a cache, once. Without node, npm or a registry these tests are skipped.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import sources
from gateway.incoming import Incoming
from schemas.errors import BadSignature
from schemas.schedules import SourceConfig

PEERS = Path(__file__).parent / "peers"
SECRET = "It's a Secret to Everybody"
CONFIG = SourceConfig(secrets=(SECRET,))
OLDEST_NODE = 20
INSTALL = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=10000")


def installed() -> Path:
    """Return a folder with the scripts and what they import, made at most once; skips the test where it cannot be."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed, so the senders' JavaScript libraries cannot be asked")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"the senders' JavaScript libraries need node {OLDEST_NODE}, this is {version.strip()}")
    files = sorted(PEERS.iterdir())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock-tests"
    if not (ready := cache / f"peers-{digest}").is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            install(Path(scratch) / "peers", files)
            with contextlib.suppress(OSError):  # another process of the same tests was first
                (Path(scratch) / "peers").rename(ready)
    return ready


def install(folder: Path, files: list[Path]) -> None:
    folder.mkdir()
    for path in files:
        shutil.copy(path, folder)
    try:
        done = subprocess.run(INSTALL, cwd=folder, capture_output=True, text=True, check=False, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install the senders' JavaScript libraries within 90 s")
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line]
        pytest.skip(f"npm could not install the senders' JavaScript libraries: {said[:1]}")


@pytest.fixture(scope="module")
def peers() -> Path:
    return installed()


def node(folder: Path, script: str, lines: list[dict[str, Any]] | None = None) -> list[Any]:
    text = "".join(json.dumps(line) + "\n" for line in lines or [])
    done = subprocess.run(
        ["node", script, SECRET], cwd=folder, input=text, capture_output=True, text=True, check=True, timeout=60
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def verdict(source: str, headers: dict[str, str], body: str) -> bool:
    try:
        sources.discover()[source].verify(Incoming(headers, body.encode(), now=time.time()), CONFIG)
    except BadSignature:
        return False
    return True


def test_githubs_library_signs_all_its_examples_and_we_verify_and_read_each(peers: Path) -> None:
    examples = node(peers, "sign_github_examples.mjs")
    github = sources.discover()["github"]

    def request(example: dict[str, str]) -> dict[str, str]:
        return {
            "content-type": "application/json",
            "x-github-event": example["event"],
            "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
            "x-hub-signature-256": example["signature"],
        }

    assert (len(examples), len(Counter(example["event"] for example in examples))) == (329, 58)
    assert all(verdict("github", request(example), example["body"]) for example in examples)
    assert not any(verdict("github", request(example), example["body"] + " ") for example in examples)
    assert not any(verdict("github", request(example), example["body"].replace(":", ";", 1)) for example in examples)
    read = [github.facts(Incoming(request(example), example["body"].encode()), CONFIG) for example in examples]
    assert [facts.event_type for facts in read] == [example["event"] for example in examples]
    assert {facts.handshake.kind for facts in read if facts.handshake} == {"ping"}


BODIES = ["{}", '{"name": "caffè", "n": 1.50}', "[" + "1," * 5000 + "1]", '{"emoji": "\U0001f980"}']


@pytest.mark.parametrize(("source", "prefix"), [("github", "x-"), ("shopify", "x-"), ("shopify", "")])
def test_their_libraries_verify_what_we_sign_and_refuse_what_was_changed(source: str, prefix: str, peers: Path) -> None:
    found = sources.discover()[source]
    (sample,) = found.samples.values()
    filled = sample.fill(time.time(), "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043")
    if not prefix:
        found = msgspec.structs.replace(found, schemes=found.schemes[1:])
        renamed = {name.removeprefix("x-"): value for name, value in filled.headers.items()}
        filled = msgspec.structs.replace(filled, headers=renamed | {"shopify-event-id": "98880550-7158"})
    signed = [found.sign(msgspec.structs.replace(filled, body=body.encode()), CONFIG) for body in BODIES]
    lines = [{"source": source, "headers": dict(one.headers), "body": one.body.decode()} for one in signed]

    assert node(peers, "verify.mjs", lines) == [True] * len(BODIES)
    assert node(peers, "verify.mjs", [line | {"body": "[]"} for line in lines]) == [False] * len(BODIES)
