"""Pipelines as the gateway knows them: published by the runner, edited while it runs, broken and repaired."""

from pathlib import Path

from tests.system import Json, Penstock
from tests.waiting import eventually

GREETS = """
from runner import pipeline

greets = pipeline("greets")

@greets.block
def greet() -> str:
    return {word!r}
"""


async def pipelines(penstock: Penstock) -> dict[str, Json]:
    listing = (await penstock.client.get("/v1/pipelines")).json()
    return {pipeline["id"]: pipeline for pipeline in listing["items"]}


async def started(penstock: Penstock, directory: Path) -> None:
    (directory / "greets.py").write_text(GREETS.format(word="hello"))
    (directory / "other.py").write_text(GREETS.replace("greets", "other").format(word="hi"))
    await penstock.start_runner(pipelines=directory)
    await penstock.start_gateway()


async def test_an_edit_counts_without_a_restart(penstock: Penstock, tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    directory.mkdir()
    await started(penstock, directory)
    before = (await pipelines(penstock))["greets"]

    (directory / "greets.py").write_text(
        GREETS.format(word="hello") + "\n@greets.block\ndef part(greet) -> str: return greet\n"
    )

    async def edited() -> bool:
        now = (await pipelines(penstock))["greets"]
        return bool(now["version"] != before["version"])

    await eventually(edited, timeout=10)
    answer = await penstock.client.post("/v1/pipelines/greets/runs", json={})
    run = await penstock.ended(answer.json()["id"])
    assert [(block["block_id"], block["state"]) for block in run["block_runs"]] == [
        ("greet", "success"),
        ("part", "success"),
    ]


async def test_a_broken_file_says_why_keeps_its_last_good_version_and_hurts_no_other(
    penstock: Penstock, tmp_path: Path
) -> None:
    directory = tmp_path / "mine"
    directory.mkdir()
    await started(penstock, directory)
    good = (await pipelines(penstock))["greets"]

    (directory / "greets.py").write_text("import no_such_module\n")
    (directory / "never.py").write_text("def never(:\n")

    async def is_reported() -> bool:
        found = await pipelines(penstock)
        return found["greets"]["error"] is not None and "never" in found

    await eventually(is_reported, timeout=10)
    found = await pipelines(penstock)
    assert found["greets"]["error"] == "greets.py:1: ModuleNotFoundError: No module named 'no_such_module'"
    assert found["greets"]["version"] == good["version"]
    assert (found["never"]["version"], found["never"]["graph"]) == (None, None)
    assert "SyntaxError" in found["never"]["error"]
    assert found["other"]["error"] is None
    refused = await penstock.client.post("/v1/pipelines/never/runs", json={})
    assert refused.status_code == 409

    (directory / "greets.py").write_text(GREETS.format(word="again"))
    (directory / "never.py").unlink()

    async def is_repaired() -> bool:
        found = await pipelines(penstock)
        return found["greets"]["error"] is None and "never" not in found

    await eventually(is_repaired, timeout=10)


async def test_the_pipeline_of_a_deleted_file_stays_and_says_so(penstock: Penstock, tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    directory.mkdir()
    await started(penstock, directory)

    (directory / "greets.py").unlink()

    async def is_gone() -> bool:
        return (await pipelines(penstock))["greets"]["error"] == "The file greets.py is gone."

    await eventually(is_gone, timeout=10)
