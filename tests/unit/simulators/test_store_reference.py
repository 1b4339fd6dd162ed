"""The yardsticks of docs/store.md, and the way from a manifest's truth to the store."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from slatewise.cli import truth
from slatewise.errors import ConfigError
from slatewise.simulators import build_truth, shares
from slatewise.simulators.reference import references
from slatewise.simulators.store_v1 import Config, Store

# What the prototype of this store measured, in % of the optimum.
PROTOTYPE = {
    "random": 59.9,
    "logged": 77.5,
    "retriever order": 81.2,
    "true single-item sort": 87.6,
    "true greedy": 92.05,
    "true beam 8": 96.9,
    "true beam 64": 98.9,
    "true greedy + 3 rounds": 99.6,
    "true beam 8 + 3 rounds": 99.7,
}


def test_shares_are_the_known_ones_roughly() -> None:
    got = shares(Store(), 60)
    for name, share in PROTOTYPE.items():
        assert got[name] == pytest.approx(share, abs=2.5), name
    assert got["optimum"] == pytest.approx(100, abs=1e-6)


@pytest.mark.slow
def test_shares_are_the_known_ones() -> None:
    got = shares(Store(), 300)
    for name, share in PROTOTYPE.items():
        assert got[name] == pytest.approx(share, abs=1.5), name


def test_wide_requests_are_ranked_among_random_lists() -> None:
    rows, exact = references(Store(Config(candidates=50)), 4)
    got = {row.policy: row for row in rows}
    assert not exact
    assert got["random"].share < got["logged"].share < got["true greedy"].share < got["optimum"].share
    assert got["optimum"].regret == pytest.approx(0, abs=1e-9)
    assert got["random"].regret == pytest.approx(100, abs=5)


def test_the_truth_of_a_manifest_builds_its_store() -> None:
    store = build_truth({"simulator": "store-v1", "candidates": 9, "world_seed": 3})
    assert store.config == Config(candidates=9, world_seed=3)
    for bad, word in (
        ({}, "simulator"),
        ({"simulator": "shop"}, "shop"),
        ({"simulator": "store-v1", "itms": 3}, "items"),
    ):
        with pytest.raises(ConfigError, match=word):
            build_truth(bad)


def test_the_verb_prints_rows() -> None:
    app = typer.Typer()
    app.command()(truth.command)
    command = ["store-v1", "--candidates", "8", "--requests", "5", "--set", "length=4", "--json"]
    answer = json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)
    assert answer["ranked_among"] == "all lists"
    assert [row["policy"] for row in answer["rows"]][-1] == "optimum"
    table = CliRunner().invoke(
        app, ["store-v1", "--requests", "5", "--set", "length=2"], catch_exceptions=False
    )
    assert "true greedy" in table.stdout
    with pytest.raises(ConfigError, match="at least 2"):
        CliRunner().invoke(app, ["store-v1", "--requests", "1"], catch_exceptions=False)
