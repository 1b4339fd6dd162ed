"""Data of a chain: rows of one table must be tested on the same requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from slatewise.api import prepare
from slatewise.config import replace
from slatewise.errors import ConfigError, DataError
from slatewise.recipe import Recipe, of_stage
from slatewise.recipe_parts import DataSpec, Row, Stage
from slatewise.reproduce_data import prepare_shared, same_requests
from slatewise.testing.fixtures import EVENTS


def test_other_requests_to_test_on_are_refused(tmp_path: Path) -> None:
    one, two = (
        prepare(
            "store-events",
            tmp_path / name,
            protocol="log-v1",
            dataset_options=EVENTS,
            protocol_options={"test_share": share, "history": 0},
        )
        for name, share in (("one", 0.2), ("two", 0.3))
    )
    same_requests([one, one])
    with pytest.raises(DataError, match=r"tested on other requests \(80 and 120 of them\)"):
        same_requests([one, two])


def test_prepared_data_is_of_no_use_to_stages(tmp_path: Path) -> None:
    recipe = Recipe(
        title="x",
        data=DataSpec(dataset="store-events"),
        rows={"a": Row(method="dnn", candidates_from="mf")},
        stages={"mf": Stage(method="matrix-factorization", data={"seed": 3})},
    )
    with pytest.raises(ConfigError, match="trained on data of their own"):
        prepare_shared(recipe, None, tmp_path, tmp_path)
    assert recipe.stage_data("mf") == replace(recipe.data, seed=3)
    assert of_stage("optimum", "mf") in recipe.beside()
