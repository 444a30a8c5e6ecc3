"""`penstock bench`: every measurement, made tiny, produces its figures. What they say is no test's business."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.bench import MEASUREMENTS
from gateway.bench.figures import Figure, at_least, at_most, figure, latencies, median_ratio, quantile
from gateway.bench.plan import Plan

TINY = Plan(
    seconds=0.2,
    rounds=1,
    connections=2,
    slow_connections=4,
    repeats=1,
    watchers=(2, 20),
    pause_s=0.001,
    stored_runs=2000,
    stored_events=4000,
)

FIGURES = {
    "accept": {
        "bare handler",
        "durable accept",
        "durable accept, GitHub signature",
        "one INSERT per request, slow disk",
    },
    "idle": {"accept, idle, p99", "POST to success, no-op of two blocks, idle, p50"},
    "dispatch": {"commit to the block's first line, idle, p50"},
    "throughput": {"no-op runs of two blocks, from a full queue", "tuned stock arq, two durable updates per job"},
    "recover": {"kill -9 of a runner to resumed, longest"},
    "stream": {"20 watchers x 100 changes/s, delay p99", "memory per idle watcher"},
    "stored": {"newest page, 2,000 runs, p99", "durable accept beside a long history"},
    "memory": {"gateway, idle", "runner with 2 hosts, idle"},
}


async def measured(name: str) -> list[Figure]:
    found: list[Figure] = await importlib.import_module(f"gateway.bench.{name}").measure(TINY, lambda _: None)
    return found


@pytest.mark.parametrize("name", MEASUREMENTS)
async def test_every_measurement_produces_its_figures(name: str) -> None:
    found = {one.name: one for one in await measured(name)}
    assert found.keys() >= FIGURES[name]
    assert all(found[wanted].value > 0 for wanted in FIGURES[name] if wanted != "memory per idle watcher")


def test_the_command_prints_json_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "gateway", "bench", "memory", "--seconds", "0.2", "--json"]
    environ = os.environ | {"TMPDIR": str(tmp_path), "PENSTOCK_DATABASE_URL": "postgresql://never-asked/"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {row["name"] for row in report["figures"]} >= FIGURES["memory"]
    assert all(row["goal"].startswith("<= ") for row in report["figures"])
    assert "memory:" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_goal_is_for_the_ratio_when_there_is_one() -> None:
    assert figure("rate", 5000.0, unit="1/s", ratio=0.6, ratio_to="bare", goal=at_least(0.7)).is_met is False
    assert figure("wait", 0.9, unit="ms", goal=at_most(1)).is_met is True
    assert figure("wait", 0.9, unit="ms").is_met is None


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantile([3.0, 1.0, 2.0, 4.0], 0.50) == 2.0
    assert quantile([3.0, 1.0, 2.0, 4.0], 0.99) == 4.0
    assert quantile([], 0.99) == 0.0
    assert [row.value for row in latencies("wait", [0.001, 0.002])] == [1.0, 2.0]


def test_series_are_compared_pair_by_pair() -> None:
    assert median_ratio([10.0, 1.0, 30.0], [20.0, 1.0, 30.0]) == 1.0
