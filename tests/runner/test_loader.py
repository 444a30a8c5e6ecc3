"""Files are loaded in child processes: whatever one of them does is its own error and nobody else's."""

import asyncio
import hashlib
import os
import sys
import textwrap
import time
from pathlib import Path

import pytest

from runner.loader import fingerprint, load
from schemas.pipelines import Definition
from tests.child_processes import children

HEALTHY = """
    '''{doc}'''
    from runner import pipeline

    p = pipeline("{id}")

    @p.block
    def hello():
        return 1
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, source: str) -> None:
        (tmp_path / name).write_text(textwrap.dedent(source).lstrip("\n"))

    return write


async def load_by_id(directory: Path, **options: float) -> dict[str, Definition]:
    definitions = await load(directory, **options)
    by_id = {definition.id: definition for definition in definitions}
    assert len(by_id) == len(definitions)
    return by_id


async def test_a_healthy_file_is_described(tmp_path: Path, write) -> None:
    write("first.py", HEALTHY.format(id="orders", doc="What it does."))
    definition = (await load_by_id(tmp_path))["orders"]
    assert definition.error is None
    assert definition.path == "first.py"
    assert definition.doc == "What it does."
    assert definition.version == hashlib.sha256((tmp_path / "first.py").read_bytes()).hexdigest()
    assert [block.id for block in definition.graph.blocks] == ["hello"]


async def test_a_directory_without_files_or_that_is_missing_defines_nothing(tmp_path: Path) -> None:
    assert await load(tmp_path) == []
    assert await load(tmp_path / "missing") == []


async def test_several_pipelines_in_one_file_are_all_found_also_made_by_shared_code(tmp_path: Path, write) -> None:
    write(
        "_shared.py", "from runner import pipeline\ndef make(id):\n    p = pipeline(id)\n    p.block(id='b')(print)\n"
    )
    write("many.py", "from _shared import make\nfor region in ('eu', 'us'):\n    make(region)\n")
    assert set(await load_by_id(tmp_path)) == {"eu", "us"}


async def test_importing_another_pipeline_file_does_not_define_its_pipelines_again(tmp_path: Path, write) -> None:
    write("a.py", "import z\n" + textwrap.dedent(HEALTHY.format(id="a", doc="")))
    write("z.py", HEALTHY.format(id="z", doc=""))
    definitions = await load_by_id(tmp_path)
    assert {name: definition.path for name, definition in definitions.items()} == {"a": "a.py", "z": "z.py"}
    assert not any(definition.error for definition in definitions.values())


async def test_a_file_named_like_a_module_shadows_nothing(tmp_path: Path, write) -> None:
    for name in ("json", "msgspec", "runner", "schemas", "asyncio", "numbers"):
        write(
            f"{name}.py",
            "import json, asyncio, msgspec\nassert json.dumps\n" + textwrap.dedent(HEALTHY).format(id=name, doc=""),
        )
    definitions = await load_by_id(tmp_path)
    assert {name: definition.error for name, definition in definitions.items()} == dict.fromkeys(
        ("json", "msgspec", "runner", "schemas", "asyncio", "numbers")
    )


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("x = 1\n\nimport polarz\n", "broken.py:3: ModuleNotFoundError: No module named 'polarz'"),
        ("def f(:\n", "broken.py:1: SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(4)\n", "broken.py:2: SystemExit: 4"),
        ("raise KeyboardInterrupt\n", "broken.py:1: KeyboardInterrupt: "),
        ("import os\nos._exit(4)\n", "broken.py: its process exited with code 4, while it was loaded"),
        ("import ctypes\nctypes.string_at(0)\n", "broken.py: its process was killed by SIGSEGV, while it was loaded"),
        ("x = 1\nwhile True: pass\n", "broken.py:2: it did not load within 1 s"),
        ("x = 1\n", "broken.py: it defines no pipeline; put `_` before the name of a file of shared code"),
        ("import _helper\n", "_helper.py:2: ZeroDivisionError: division by zero"),
        ("open(__file__ + 'x')\n", "broken.py:1: FileNotFoundError: [Errno 2] No such file or directory: 'broken.pyx'"),
        ("x = '\udcff'\n", "broken.py:1: SyntaxError: (unicode error) 'utf-8' codec can't decode byte 0xff"),
    ],
)
async def test_a_broken_file_is_reported_and_hurts_nobody(tmp_path: Path, write, source: str, error: str) -> None:
    (tmp_path / "broken.py").write_bytes(source.encode(errors="surrogateescape"))
    write("_helper.py", "x = 1\n1 / 0\n")
    write("a.py", HEALTHY.format(id="a", doc=""))
    write("z.py", HEALTHY.format(id="z", doc=""))
    definitions = await load_by_id(tmp_path, timeout=1)
    assert definitions["broken"].error.startswith(error)
    assert str(tmp_path) not in definitions["broken"].error
    assert definitions["broken"].version == hashlib.sha256((tmp_path / "broken.py").read_bytes()).hexdigest()
    assert definitions["a"].error is None
    assert definitions["z"].error is None


async def test_a_wrong_definition_is_reported_where_it_stands(tmp_path: Path, write) -> None:
    write(
        "orders.py",
        """
        from runner import pipeline

        p = pipeline("orders")
        q = pipeline("fine")

        @p.block
        def load(laod):
            return 1

        @q.block
        def hello():
            return 1
        """,
    )
    write("early.py", "from runner import pipeline\n\np = pipeline('early', max_active_runs=0)\n")
    definitions = await load_by_id(tmp_path)
    assert definitions["orders"].error.startswith("orders.py:6: pipeline 'orders', block 'load': parameter 'laod'")
    assert definitions["orders"].graph is None
    assert definitions["fine"].error is None
    assert definitions["early"].error == "early.py:3: pipeline 'early': max_active_runs is 0, it must be at least 1"


async def test_the_second_file_with_the_same_pipeline_is_an_error_that_names_the_first(tmp_path: Path, write) -> None:
    write("a.py", HEALTHY.format(id="orders", doc=""))
    write("b.py", HEALTHY.format(id="orders", doc=""))
    write("orders.py", HEALTHY.format(id="orders", doc=""))
    definitions = await load_by_id(tmp_path)
    assert {name: (definition.path, definition.error) for name, definition in definitions.items()} == {
        "orders": ("a.py", None),
        "b": ("b.py", "b.py: pipeline 'orders' is already defined in a.py"),
        "orders.py": ("orders.py", "orders.py: pipeline 'orders' is already defined in a.py"),
    }


async def test_a_broken_file_with_an_odd_name_gets_a_valid_id(tmp_path: Path, write) -> None:
    write("-my orders é.py", "1 / 0\n")
    write(".hidden.py", "1 / 0\n")
    assert set(await load_by_id(tmp_path)) == {"_my_orders__"}


async def test_printing_is_no_error_and_never_reaches_our_own_output(tmp_path: Path, write, capfd) -> None:
    write(
        "prints.py",
        "import os, sys\nprint('garbage' * 99999)\nos.write(1, b'\\xff' * 200_000)\nsys.stderr.write('no')\n"
        + textwrap.dedent(HEALTHY).format(id="prints", doc=""),
    )
    assert (await load_by_id(tmp_path))["prints"].error is None
    assert capfd.readouterr() == ("", "")


async def test_endless_files_cost_their_own_timeout_and_no_more(tmp_path: Path, write) -> None:
    for number in range(10):
        write(f"file{number}.py", HEALTHY.format(id=f"file{number}", doc=""))
    write("b_spins.py", "while True:\n    pass\n")
    write(
        "a_swallows.py",
        "while True:\n    try:\n        import time; time.sleep(9)\n    except BaseException:\n        pass\n",
    )
    started = time.monotonic()
    definitions = await load_by_id(tmp_path, timeout=1)
    assert time.monotonic() - started < 6
    assert {name for name, definition in definitions.items() if definition.error} == {"a_swallows", "b_spins"}


async def test_a_thread_left_behind_by_one_file_is_not_blamed_on_the_next(tmp_path: Path, write) -> None:
    bomb = "import os, threading\nthreading.Timer({delay}, os._exit, (1,)).start()\n"
    for number in range(4):
        write(f"a{number}.py", bomb.format(delay=0.01) + textwrap.dedent(HEALTHY).format(id=f"a{number}", doc=""))
        write(
            f"b{number}.py", "import time\ntime.sleep(0.1)\n" + textwrap.dedent(HEALTHY).format(id=f"b{number}", doc="")
        )
    definitions = await load_by_id(tmp_path)
    assert [definitions[f"b{number}"].error for number in range(4)] == [None] * 4


async def test_no_user_code_is_imported_here_and_no_child_is_left(tmp_path: Path, write) -> None:
    write("_helper.py", "")
    write("a.py", "import _helper\n" + textwrap.dedent(HEALTHY).format(id="a", doc=""))
    modules, path = set(sys.modules), list(sys.path)
    before = children(os.getpid())
    assert (await load_by_id(tmp_path))["a"].error is None
    assert "_helper" not in set(sys.modules) - modules
    assert sys.path == path
    assert set(children(os.getpid())) <= set(before)


async def test_loading_leaves_the_event_loop_free(tmp_path: Path, write) -> None:
    write("a.py", "import time\ntime.sleep(0.3)\n" + textwrap.dedent(HEALTHY).format(id="a", doc=""))
    loading = asyncio.ensure_future(load(tmp_path))
    beats = 0
    while not loading.done():
        await asyncio.sleep(0.01)
        beats += 1
    assert beats >= 10


def test_a_fingerprint_changes_with_each_edit(tmp_path: Path, write) -> None:
    write("a.py", "1\n")
    write("_shared.py", "1\n")
    write(".hidden.py", "1\n")
    write("notes.txt", "1\n")
    (tmp_path / "folder.py").mkdir()
    before = fingerprint(tmp_path)
    assert set(before) == {"a.py", "_shared.py"}
    write("_shared.py", "22\n")
    after = fingerprint(tmp_path)
    assert after["a.py"] == before["a.py"]
    assert after["_shared.py"] != before["_shared.py"]
    assert fingerprint(tmp_path / "missing") == {}
