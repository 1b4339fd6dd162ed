"""Reports: three files that agree, a page that stands alone, curves from whatever a run logged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from slatewise.evaluation.curves import read_curves
from slatewise.evaluation.plots import group_rewards, metric_bars, training_curves
from slatewise.evaluation.provenance import made_by
from slatewise.evaluation.report import in_kinds, write_report
from slatewise.evaluation.results import Row
from slatewise.evaluation.words import label, written


def row(policy: str, kind: str, ndcg: float, regret: float = 0.5, **more: object) -> Row:
    numbers = {"ndcg@6": ndcg, "regret": regret}
    values: dict[str, object] = {
        "policy": policy, "kind": kind, "metrics": numbers, "requests": 100, "seeds": 1,
        "low": {k: v - 0.02 for k, v in numbers.items()}, "high": {k: v + 0.02 for k, v in numbers.items()},
        "counts": {"ndcg@6": 90, "regret": 100},
    }  # fmt: skip
    return Row(**(values | more))  # type: ignore[arg-type]


ROWS = [
    row("oracle", "ceiling", 1.0),
    row(
        "goalrank",
        "ranker",
        0.86,
        0.2,
        seeds=3,
        std={"ndcg@6": 0.004, "regret": 0.01},
        paper={"ndcg@6": 0.834},
    ),
    row("dnn <b>", "ranker", 0.80, 0.3),
    row("random", "floor", 0.31, float("nan")),
]
COLUMNS = ["ndcg@6", "regret"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "stages" / "reward-1a").mkdir(parents=True)
    numbers = {"reward/own": 2.0, "gap/own": 0.1, "reward/random": 1.0}
    lines = [{"stage": "goalrank", "step": s, "loss": 1 / s} | numbers for s in (20, 40, 60)]
    text = "\n".join(
        [*map(json.dumps, lines), '{"stage": "goalrank", "loss": NaN}', "[1, 2]", '{"stage": "goa']
    )
    (folder / "metrics.jsonl").write_text(text)
    reward = [{"stage": "reward", "step": 20, "loss": 0.6, "note": "x", "flag": True},
              {"stage": "reward", "step": 20, "split": "validation", "value": 0.7}]  # fmt: skip
    (folder / "stages" / "reward-1a" / "metrics.jsonl").write_text("\n".join(map(json.dumps, reward)))
    return folder


def test_curves_of_a_killed_run_are_read(run: Path) -> None:
    curves = read_curves(run)
    assert set(curves.stages) == {"goalrank", "reward"}
    assert curves.stages["goalrank"]["loss"].steps == [20, 40, 60]
    assert curves.stages["goalrank"]["loss"].values == [1 / 20, 1 / 40, 1 / 60]
    assert set(curves.stages["reward"]) == {"loss", "validation value"}
    assert set(curves.with_prefix("reward/")) == {"own", "random"}


def test_a_run_without_metrics_has_no_curves(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "nothing").stages == {}
    assert training_curves([read_curves(tmp_path)]) == ""


def test_the_three_files_agree(tmp_path: Path, run: Path) -> None:
    page = write_report(tmp_path / "out", title="A & B", rows=ROWS, columns=COLUMNS,
    curves=[read_curves(run)],
                        meta={"command": "slatewise evaluate <x>"})  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    answer = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [entry["policy"] for entry in answer["rows"]] == ["random", "goalrank", "dnn <b>", "oracle"]
    assert answer["rows"][0]["metrics"]["regret"] is None  # NaN is not JSON
    text, html = (tmp_path / "out" / "report.md").read_text(), page.read_text()
    for shown in ("86.00", "0.200", "31.00", "83.40"):
        assert shown in text
        assert shown in html
    assert "**86.00** ± 0.40" in text
    assert "**0.200**" in text  # less regret is better
    assert "Over 90 of 100 requests: ndcg@6." in text


def test_a_metric_that_some_policies_cannot_have_is_counted_over_the_others(tmp_path: Path) -> None:
    """A floor that cannot search the catalogue says nothing of how many requests ask for a new item."""
    rows = [
        row("random", "floor", 0.3, counts={"ndcg@6": 90, "regret": 0}),
        row("oneranker", "ranker", 0.8, counts={"ndcg@6": 90, "regret": 7}),
    ]
    write_report(tmp_path, title="Table", rows=rows, columns=COLUMNS)
    text = (tmp_path / "report.md").read_text()
    assert "Over 7 of 100 requests: regret." in text
    assert "Over 90 of 100 requests: ndcg@6." in text
    assert "Over 0 of" not in text


def test_the_page_stands_alone_and_escapes_names(tmp_path: Path, run: Path) -> None:
    html = write_report(tmp_path, title="A & B <i>", rows=ROWS, columns=COLUMNS, curves=[read_curves(run)],
                        meta={"command": "<script>"}).read_text()  # fmt: skip
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", html))
    assert all("w3.org" in address for address in addresses)  # names of XML vocabularies, nothing is fetched
    assert "<script" not in html
    assert "dnn <b>" not in html
    assert "A &amp; B &lt;i&gt;" in html
    assert "prefers-color-scheme: dark" in html
    assert html.index("Floors") < html.index("goalrank") < html.index("Ceilings")


def test_pictures_take_the_pages_colour_and_say_what_they_show(run: Path) -> None:
    curves = read_curves(run)
    for svg in (metric_bars(ROWS, COLUMNS), training_curves([curves]), group_rewards([curves])):
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        assert "width" not in root.attrib
        assert "currentColor" in svg
        assert "#010203" not in svg
        assert "#000000" not in svg
    assert "dnn &lt;b&gt;" in metric_bars(ROWS, COLUMNS)


def test_no_picture_of_nothing() -> None:
    assert metric_bars([], COLUMNS) == ""
    assert metric_bars(ROWS, ["auc"]) == ""


def test_floors_come_first_and_ceilings_last() -> None:
    assert [one.kind for one in in_kinds(ROWS)] == ["floor", "ranker", "ranker", "ceiling"]


def test_numbers_are_written_for_people() -> None:
    assert written("ndcg@6", 0.73561) == "73.56"
    assert written("true-value", 2.35) == "2.350"
    assert written("true-rank", 58354.5) == "58,354"
    assert written("auc", float("nan")) == written("auc", None) == "–"
    assert (label("ndcg@6"), label("regret-share"), label("true-hr@1%")) == (
        "ndcg@6 %",
        "regret-share % ↓",
        "true-hr@1%",
    )


def test_the_box_says_how_it_was_made() -> None:
    facts = made_by(seeds="1, 2")
    assert facts["seeds"] == "1, 2"
    assert "torch" in facts["versions"]
    assert "cores" in facts["machine"]
