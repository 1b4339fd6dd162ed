"""``slatewise ab``: tables for people, one object for machines, mistakes in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from commands import call
from slatewise.data.check import check_requests
from slatewise.errors import DataError
from slatewise.evaluation import experiment
from slatewise.ranker import Ranker
from slatewise.serving.simulate import Arm, simulate
from slatewise.simulators.store_v1 import Store
from slatewise.testing.backend import example_ranker
from slatewise.testing.fixtures import example_data


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rng, count = np.random.default_rng(0), 1500
    user = rng.integers(0, 600, count)
    table = {
        "request_id": np.arange(count),
        "user_id": user,
        "timestamp": np.arange(count) + 1_700_000_000,
        "candidates": [["x", "y"]] * count,
        "exposed": [["y"]] * count,
        "feedback_click": rng.binomial(1, np.where(user % 3 == 0, 0.4, 0.2))[:, None].astype(float).tolist(),
        "arm": ["old" if one % 3 else "new" for one in user],
    }
    path = tmp_path / "log.parquet"
    pl.DataFrame(table).write_parquet(path)
    return path


SHARES = ["--share", "new=0.3333333", "--share", "old=0.6666667"]


def test_for_machines(log: Path, monkeypatch, capsys) -> None:
    code, printed, _ = call(monkeypatch, capsys, "ab", str(log), "--json", *SHARES)
    assert code == 0
    answer = json.loads(printed)
    assert (answer["metric"], answer["unit"], answer["control"]) == ("click", "user_id", "old")
    assert [row["arm"] for row in answer["rows"]] == ["new", "old"]
    assert answer["differences"][0]["difference"] > 0.1
    assert answer["differences"][0]["p"] < 1e-6
    assert answer["sequential"][0]["crossed"] < 1500
    assert not answer["sample_ratio"]["mismatch"]
    assert (answer["left_out"], answer["shared_units"]) == ({}, 0)


def test_for_people(log: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    more = ["--control", "new", "--planned", "600", "--burn-in", "50", "--out", str(tmp_path / "report")]
    code, printed, _ = call(monkeypatch, capsys, "ab", str(log), *more)
    assert code == 0
    for words in ("new (control)", "Differences from new", "told apart", "Sample ratio mismatch"):
        assert words in printed
    assert (tmp_path / "report" / "report.html").exists()


MISTAKES = [
    (["--metric", "sale"], "no metric 'sale'"),
    (["--share", "new"], "--share needs ARM=SHARE"),
    (["--share", "new=x"], "--share needs ARM=SHARE"),
    (["--share", "new=0.5"], "name every arm"),
    (["--planned", "0"], "planned is 0"),
]


@pytest.mark.parametrize(("more", "said"), MISTAKES)
def test_mistakes(log: Path, tmp_path: Path, monkeypatch, capsys, more, said: str) -> None:
    code, printed, error = call(monkeypatch, capsys, "ab", str(log), "--out", str(tmp_path / "report"), *more)
    assert (code, printed) == (2, "")
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "report").exists()


def test_no_such_log(tmp_path: Path, monkeypatch, capsys) -> None:
    code, _, error = call(monkeypatch, capsys, "ab", str(tmp_path / "none.parquet"))
    assert code == 2
    assert "there is no file" in error


# --- simulated ---


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    example_ranker().save(folder / "one")
    other = example_ranker()
    for weight in other.policy.parameters():
        weight.data *= -1.0
    other = Ranker(other.policy, other.transform, other.card, None)
    other.save(folder / "two")
    return folder


def test_an_experiment_is_simulated_and_judged(runs: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    log = tmp_path / "log.parquet"
    data, arms = (
        example_data().path,
        f"--ranker one={runs}/one --ranker two={runs}/two --mix both=one:0.3,two:0.7",
    )
    line = f"{log} --simulate {data} {arms} --requests 1500 --burn-in 5 --json"
    code, printed, _ = call(monkeypatch, capsys, "ab", *line.split())
    found = json.loads(printed)
    assert code == 0
    assert [row["arm"] for row in found["rows"]] == ["both", "one", "two"]
    assert sum(row["requests"] for row in found["rows"]) == 1500
    assert found["shared_units"] == 0
    frame = pl.read_parquet(log)
    mixed = frame.filter(arm="both")["model_version"].str.split(":").list.first()
    assert 0.2 < (mixed == "one").mean() < 0.4
    asked = frame.filter(arm="one").head(20)
    lists = Ranker.load(runs / "one").rank(asked).group_by("request_id", maintain_order=True).agg("item_id")
    assert lists["item_id"].to_list() == asked["exposed"].to_list()
    assert not check_requests(frame)
    again = tmp_path / "again.parquet"
    call(monkeypatch, capsys, "ab", *line.replace(str(log), str(again)).split())
    assert pl.read_parquet(again).equals(frame)


def test_the_propensity_of_a_mix_is_the_share_of_those_that_write_the_list() -> None:
    one, two, drawing = example_ranker(), example_ranker(), example_ranker()
    for weight in two.policy.parameters():
        weight.data *= -1.0
    drawing.policy.use("sample")
    rankers = {"one": one, "same": one, "two": two, "drawing": drawing}
    mixes = {
        "mix": {"one": 3.0, "two": 7.0},
        "alike": {"one": 0.5, "same": 0.5},
        "unknown": {"one": 0.9, "drawing": 0.1},
    }
    arms = {name: Arm(name, shares) for name, shares in mixes.items()}
    arms |= {name: Arm(name, {name: 1.0}) for name in ("one", "drawing")}
    frame = simulate(example_data().manifest, rankers, arms, 600, 0)
    by_arm = {name: frame.filter(arm=name) for name in arms}
    assert by_arm["one"]["propensity"].unique().to_list() == [1.0]
    np.testing.assert_allclose(by_arm["alike"]["propensity"], 1.0)
    for name in ("unknown", "drawing"):
        assert by_arm[name]["propensity"].null_count() == by_arm[name].height > 0
    mixed = by_arm["mix"]
    both = [
        ranker.rank(mixed).group_by("request_id", maintain_order=True).agg("item_id")["item_id"].to_list()
        for ranker in (one, two)
    ]
    wanted = [
        0.3 * (a == shown) + 0.7 * (b == shown)
        for a, b, shown in zip(*both, mixed["exposed"].to_list(), strict=True)
    ]
    np.testing.assert_allclose(mixed["propensity"], wanted)
    assert {0.3, 0.7} <= set(np.round(wanted, 6))
    assert not check_requests(frame)


TWO = "--simulate {data} --ranker one={runs}/one --ranker two={runs}/two "
WRONG_SIMULATIONS = [
    ("--simulate {data}", "needs rankers"),
    ("--ranker one={runs}/one", "give --simulate DATA, too"),
    ("--simulate {data} --ranker one={runs}/one --mix a=one:x", "is no mix"),
    ("--simulate {data} --ranker one={runs}/one --mix a=three:1", "names the ranker 'three'"),
    ("--simulate {data} --ranker one={runs}/one", "two arms or more, got one"),
    (TWO + "--metric clik", "no metric 'clik'. Did you mean 'click'? The log has: click, conversion, value"),
    (TWO + "--control three", "no control 'three'"),
    (TWO + "--share one=0.5", "name every arm"),
    (TWO + "--planned 0", "planned is 0"),
]


@pytest.mark.parametrize(("options", "said"), WRONG_SIMULATIONS)
def test_what_cannot_be_simulated_is_said(
    options: str, said: str, runs: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(Store, "sample", None)  # all of it is said before anything is simulated
    options = options.format(data=example_data().path, runs=runs)
    code, _, error = call(monkeypatch, capsys, "ab", f"{tmp_path}/log.parquet", *options.split())
    assert code == 2
    assert said in error
    assert not list(tmp_path.iterdir())


def test_what_fails_after_the_simulation_leaves_no_log(
    runs: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    log = tmp_path / "log.parquet"
    line = [str(log), *TWO.format(data=example_data().path, runs=runs).split(), "--requests", "300", "--json"]

    def fails(*_, **__):
        raise DataError("no space left.")

    with monkeypatch.context() as broken:
        broken.setattr(experiment, "judge", fails)
        assert call(broken, capsys, "ab", *line)[0] == 2
    assert not list(tmp_path.iterdir())
    assert call(monkeypatch, capsys, "ab", *line)[0] == 0
    assert log.exists()
