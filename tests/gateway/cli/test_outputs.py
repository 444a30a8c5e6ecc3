"""What blocks returned, on the command line: previews, profiles, files, and dry runs."""

from pathlib import Path
from typing import Any

import pytest

from tests.gateway.cli.canned_gateway import CannedGateway, sent
from tests.gateway.cli.conftest import Penstock

BLOCK = "/v1/runs/12/blocks/load"


def a_preview(**changes: Any) -> dict[str, Any]:
    rows = [{"id": 1, "name": "a\x1b[2J", "tags": ["x"]}, {"id": 2, "name": None, "tags": []}]
    whole = {"block_id": "load", "map_index": None, "columns": ["id", "name", "tags"], "rows": rows, "row_count": 2}
    return whole | {"truncated": False} | changes


def a_column(**changes: Any) -> dict[str, Any]:
    column: dict[str, Any] = {
        "name": "id", "type": "Int64", "null_count": 0, "null_pct": 0.0, "unique_count": 2, "unique_pct": 100.0,
        "min": 1, "max": 2, "mean": 1.5, "is_numeric": True, "sample_values": [1, 2],
    }  # fmt: skip
    return column | changes


def a_profile(**changes: Any) -> dict[str, Any]:
    whole = {"row_count": 2, "column_count": 1, "profiled_rows": 2, "sampled": False, "columns": [a_column()]}
    about = {"profiling_ms": 3, "block_id": "load", "map_index": None, "drift": [], "compared_with": None}
    return whole | about | changes


def a_dry_block(block_id: str, **changes: Any) -> dict[str, Any]:
    return {"block_id": block_id, "state": "success", "row_count": None, "duration_ms": 3, "error": None} | changes


def test_a_preview_is_rows_for_programs_and_a_table_for_people(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", f"{BLOCK}/preview", a_preview())

    plain = penstock("runs", "preview", "12", "load")
    assert (plain.stdout, plain.stderr) == ('1\ta[2J\t["x"]\n2\t\t[]\n', "")
    table = penstock("runs", "preview", "12", "load", "-o", "table")
    assert table.stdout.splitlines()[0].split() == ["id", "name", "tags"]
    assert "\x1b[2J" not in table.stdout


def test_a_cut_preview_says_how_to_have_the_rest(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", f"{BLOCK}/preview", a_preview(truncated=True))

    assert "penstock runs output 12 load" in penstock("runs", "preview", "12", "load").stderr


def test_the_preview_of_what_is_no_table_is_its_value(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", f"{BLOCK}/preview", a_preview(columns=None, rows=None, row_count=None, value={"a": 1}))

    assert '"a": 1' in penstock("runs", "preview", "12", "load").stdout


def test_a_profile_tells_columns_and_drift(server: CannedGateway, penstock: Penstock) -> None:
    drift = {"column": "id", "type": "type_changed", "previous": "String", "current": "Int64", "severity": "critical"}
    server.answers("GET", f"{BLOCK}/profile", a_profile(drift=[drift]))

    result = penstock("runs", "profile", "12", "load", "--item", "3")

    assert "column\tid\tInt64\t0%\t2\t1\t2\t1.5\t1, 2" in result.stdout
    assert "drift\tid\ttype_changed\tString\tInt64\tcritical" in result.stdout
    assert server.asked[-1].target.endswith("?map_index=3")


def test_an_output_is_written_into_a_file_in_the_form_of_its_name(
    server: CannedGateway, penstock: Penstock, tmp_path: Path
) -> None:
    server.answers("GET", f"{BLOCK}/output", b"PAR1")

    result = penstock("runs", "output", "12", "load", "--file", str(tmp_path / "rows.parquet"))

    assert (result.exit_code, (tmp_path / "rows.parquet").read_bytes()) == (0, b"PAR1")
    assert server.asked[-1].target.endswith("?format=parquet")
    assert [path.name for path in tmp_path.iterdir() if "rows" in path.name] == ["rows.parquet"]


def test_an_output_that_is_not_there_writes_no_file(server: CannedGateway, penstock: Penstock, tmp_path: Path) -> None:
    server.refuses("GET", f"{BLOCK}/output", 404, title="Not found", detail="The output was purged.")

    result = penstock("runs", "output", "12", "load", "--file", str(tmp_path / "rows.json"))

    assert (result.exit_code, result.stderr) == (3, "penstock: The output was purged.\n")
    assert not (tmp_path / "rows.json").exists()


@pytest.mark.parametrize(("state", "code"), [("success", 0), ("failed", 7)])
def test_a_dry_run_shows_each_block_and_exits_by_its_state(
    server: CannedGateway, penstock: Penstock, state: str, code: int
) -> None:
    blocks = {
        "load": a_dry_block("load", columns=["id"], rows=[{"id": 1}], row_count=9),
        "sum": a_dry_block("sum", state=state, columns=None, rows=None, value=45),
        "bad": a_dry_block("bad", columns=None, rows=None, error={"type": "ValueError", "message": "no\x1b[2J"}),
    }
    answer = {"pipeline_id": "orders", "state": state, "blocks": blocks, "error": None}
    server.answers("POST", "/v1/pipelines/orders/dry-run", answer)

    result = penstock("pipelines", "dry-run", "orders", "-d", '{"day": 1}', "--event", '{"ref": "x"}', "--rows", "3")

    assert result.exit_code == code
    assert "block\tload\tsuccess\t3 ms\t9" in result.stdout
    assert "ValueError in bad: no[2J" in result.stdout
    assert sent(server) == {"variables": {"day": 1}, "rows": 3, "event_variables": {"ref": "x"}}
