"""``slatewise check``: exit codes, the sentence on stderr, and the object that ``--json`` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from slatewise.cli import check

REQUESTS: dict[str, list[Any]] = {
    "request_id": ["a", "b"],
    "user_id": [1, 2],
    "timestamp": [1, 2],
    "candidates": [[1, 2, 3], [2, 3]],
    "exposed": [[2], [3, 2]],
    "feedback_click": [[1], [0, 0]],
    "feedback_value": [[2.5], [0, 0]],
    "candidate_price": [[1, 2, 3], [4, 5]],
}


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command("check")(check.command)
    return CliRunner().invoke(app, list(arguments))


def write(folder: Path, **change: Any) -> str:
    path = folder / "requests.parquet"
    pl.DataFrame({**REQUESTS, **change}, strict=False).write_parquet(path)
    return str(path)


def test_a_good_file(tmp_path: Path) -> None:
    result = run(write(tmp_path))
    assert result.exit_code == 0
    assert "No faults." in result.stdout
    assert result.stderr == ""
    for words in ("click (binary, mean 0.3333)", "value (amount", "min 2, median 2, max 3", "price"):
        assert words in result.stdout


def test_a_faulty_file_exits_with_two_and_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path, exposed=[[9], [3, 2]], propensity=[2, 3])
    result = run(path)
    assert result.exit_code == 2
    assert result.stderr.startswith("slatewise: requests, row 0 (request_id 'a'): exposed holds 9")
    assert result.stderr.count("\n") == 1
    assert "exposed-not-candidate" in result.stdout
    assert run(path, "--ranking").exit_code == 0


def test_json_has_one_row_a_fault_and_the_counts(tmp_path: Path) -> None:
    path = write(tmp_path, propensity=[2, 3], spare=[1, 1])
    result = run(path, "--json", "--examples", "1")
    assert result.exit_code == 2
    answer = json.loads(result.stdout)
    rows = [(r["row"], r["column"], r["kind"], r["count"], r["level"]) for r in answer["rows"]]
    assert rows == [
        (None, "spare", "unknown-column", 1, "warning"),
        (0, "propensity", "propensity", 2, "error"),
    ]
    assert answer["counts"]["requests"] == 2
    assert answer["schema"]["ids"] == {"request_id": "string", "user_id": "integer", "item_id": "integer"}
    assert [kind["binary"] for kind in answer["schema"]["feedback"]] == [True, False]


def test_a_warning_alone_is_no_failure(tmp_path: Path) -> None:
    result = run(write(tmp_path, spare=[1, 1]))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "unknown-column" in result.stdout


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_what_cannot_be_read_is_a_sentence_too(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.parquet"
    if content is not None:
        path.write_bytes(content)
    result = run(str(path), "--json")
    assert result.exit_code == 2
    assert [row["kind"] for row in json.loads(result.stdout)["rows"]] == ["unreadable"]
    assert result.stderr.startswith("slatewise: ")
    assert "Traceback" not in result.output
