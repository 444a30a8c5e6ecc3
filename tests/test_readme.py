"""What the README and the other pages say is true, and what they tell a reader to type works."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from gateway import hooks, openapi, stream
from gateway.api import handlers
from gateway.cli import COMMANDS, EXIT_CODES, INTERRUPTED, cli
from gateway.health import live, metrics, ready
from gateway.hooks import Answer
from runner import loader
from schemas.runs import RunRef
from schemas.settings import PREFIX, Settings
from schemas.states import BlockState, Role, RunState
from tests.pages import ROOT, blocks, console_script, terminal

PAGES = [
    "README.md",
    "examples/README.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]
TYPED = [page for page in PAGES if any("penstock up" in block.text for block in blocks(page))]
needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "awk", "openssl"))), reason="the pages use bash, curl, awk and openssl"
)


def text(page: str = "README.md") -> str:
    return (ROOT / page).read_text()


def section(title: str) -> str:
    return text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]  # the first is the heading
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[1:]]


@needs_tools
@pytest.mark.parametrize("page", [*TYPED, "docs/github.md"])
async def test_what_the_page_tells_to_type_works(page: str, tmp_path: Path) -> None:
    with terminal(tmp_path) as typist:
        if page not in TYPED:
            await typist.type("penstock up")
        for block in blocks(page):
            if block.language == "sh":
                await typist.type(block.text)
            elif block.file:
                typist.save(block.file, block.text)

    last_words = {
        "README.md": ["Hello, Ada!", "event: end", '"state":"success"', "region=eu-south-1 ref=order-7"],
        "examples/README.md": ["s3_object_created", "loading", "March 2026.csv", "success"],
        "docs/github.md": ['"status":"accepted"', "announced", "success"],
        "docs/sending.md": ["verified as source github", "202 Accepted", "run #2: success"],
    }
    for words in last_words[page]:
        assert words in typist.printed


def test_the_demo_prints_what_the_readme_shows() -> None:
    shown = next(block for block in blocks("README.md") if "signed delivery" in block.text)

    printed = [_without_figures(line) for line in console_script("demo").splitlines()]

    for line in shown.text.splitlines():
        assert _without_figures(line) in printed


def test_the_answer_that_the_readme_shows_has_the_members_of_a_real_one() -> None:
    shown = next(json.loads(block.text) for block in blocks("README.md") if block.language == "json")

    assert set(shown) == {"event_id", "status", "runs"} <= set(Answer.__struct_fields__)
    assert set(shown["runs"][0]) == set(RunRef.__struct_fields__)


@pytest.mark.parametrize("page", PAGES)
async def test_every_pipeline_on_the_page_loads(page: str, tmp_path: Path) -> None:
    files = [block for block in blocks(page) if block.file and block.file.startswith("pipelines/")]
    for block in files:
        (tmp_path / Path(block.file or "").name).write_text(block.text)

    loaded = await loader.load(tmp_path)

    assert [definition.error for definition in loaded] == [None] * len(files)


def test_the_test_that_the_authoring_page_shows_passes(tmp_path: Path) -> None:
    for block in blocks("docs/authoring.md"):
        if block.file:
            (tmp_path / block.file).parent.mkdir(exist_ok=True)
            (tmp_path / block.file).write_text(block.text)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path, env={"PYTHONPATH": "pipelines"}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert "1 passed" in done.stdout, done.stdout


def test_the_python_of_the_examples_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    code = [block.text for block in blocks("examples/README.md") if block.language == "python"]
    assert code
    for block in code:
        exec(block, {})


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", prose):
        path, _, heading = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        assert not heading or heading in _anchors(file), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_the_page_names_exists(page: str) -> None:
    for name in re.findall(r"`((?:gateway|runner|schemas|migrations|examples|docs)/[\w./<>]*)`", text(page)):
        assert list(ROOT.glob(name.replace("<name>", "*"))), name


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_the_page_names_exists_with_its_options(page: str) -> None:
    for line in re.findall(r"(?:^|`|\(|\| )(penstock [a-z](?:(?!\$\()[^`|)\n])*)", text(page), re.MULTILINE):
        words = line.split()[1:]
        command: click.Command = cli
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            name, found, words = command.resolve_command(click.Context(command), words)
            assert found is not None, line
            command = found
            assert name
        known = {option for parameter in command.params for option in (*parameter.opts, "--help", "--version")}
        assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_that_the_page_names_is_a_setting(page: str) -> None:
    names = set(re.findall(rf"{PREFIX}[A-Z0-9_]*[A-Z0-9]", text(page))) - {f"{PREFIX}X_FILE"}

    assert {name.removeprefix(PREFIX).removesuffix("_FILE").lower() for name in names} <= set(
        Settings.__struct_fields__
    )


def paired(names: str, values: str) -> dict[str, str]:
    """A row may explain several settings; those that are left without a default have none."""
    cells = [[part.strip("`") for part in cell.split(", ")] for cell in (names, values)]
    return dict(itertools.zip_longest(*cells, fillvalue=""))


def test_the_table_of_settings_has_every_default() -> None:
    defaults: dict[str, str] = {}
    for names, values, *_ in rows("Settings"):
        defaults |= paired(names, values)

    assert defaults == {
        PREFIX + name.upper(): str(default).lower() if isinstance(default, bool) else str(default)
        for name, default in msgspec.structs.asdict(Settings()).items()
    }


def test_the_table_of_the_api_has_every_path() -> None:
    told = {
        (method, path)
        for methods, path in re.findall(r"`((?:[A-Z]+ )+)(/[^`]*)`", section("API"))
        for method in methods.split()
    }
    ours = [*handlers, stream.run_stream, stream.stream, live, ready, metrics, openapi.openapi_json]

    assert told == {_method_and_path(handler) for handler in ours}
    for handler in (hooks.hook_with_token, hooks.hook_with_header):
        assert f"`POST {_shorten(next(iter(handler.paths)))}`" in section("Answers of the hook")


def test_the_table_of_commands_has_every_command() -> None:
    assert set(re.findall(r"`penstock (\w+)`", section("Commands"))) == set(COMMANDS)


def test_every_exit_code_is_told() -> None:
    told = section("Commands").partition("Exit codes:")[2]

    assert {int(code) for code in re.findall(r"\b\d+\b", told)} == {0, 1, *EXIT_CODES.values(), INTERRUPTED}


def test_every_state_and_role_is_told() -> None:
    states = section("States")
    for state in (*RunState, *BlockState):
        assert state in states
    for role in Role:
        assert f"**{role}**" in section("API")


def test_the_readme_stays_short() -> None:
    assert len(text().splitlines()) < 250


def _without_figures(line: str) -> str:
    line = re.sub(r"pst_\w+", "TOKEN", line)
    line = re.sub(r"\d+(\.\d+)? (ms|s)\b", "TIME", line)
    return re.sub(r"^\d\d:\d\d:\d\d\.\d{3}|(?<=127\.0\.0\.1:)\d+", "#", line)


def _anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def _method_and_path(handler: Any) -> tuple[str, str]:
    return next(iter(handler.http_methods)), _shorten(next(iter(handler.paths)))


def _shorten(path: str) -> str:
    """Write a parameter as the README does: what names a resource is its id, but for a block of a run."""
    path = re.sub(r":str\}", "}", path)
    return path if path.startswith("/hooks") else re.sub(r"\{(?!block\})\w+\}", "{id}", path)
