"""Official clients of other products, each in an environment that has nothing else, made once and kept in a cache."""

import asyncio
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "penstock-tests"


def python_with(package: str, version: str) -> Path:
    """Find the interpreter of an environment with this client, made now if there is none; skips when it cannot be."""
    directory = CACHE / f"{package}-{version}-{sys.version_info.major}.{sys.version_info.minor}"
    python, done = directory / "bin" / "python", directory / "complete"
    if not done.exists():
        venv.create(directory, with_pip=True, clear=True)
        installing = [python, "-m", "pip", "install", "--quiet", "--retries", "1", f"{package}=={version}"]
        installed = subprocess.run(installing, capture_output=True, text=True, timeout=240, check=False)
        if installed.returncode:
            pytest.skip(f"{package} {version} cannot be installed: {installed.stderr.strip()[-300:]}")
        done.touch()
    return python


async def drive(package: str, version: str, script: Path, *arguments: object) -> Any:
    """Run a script in the environment of a client, and read the JSON that it prints."""
    python = await asyncio.to_thread(python_with, package, version)
    process = await asyncio.create_subprocess_exec(
        python, script, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return json.loads(told)
