"""Every method's ranker can be exported as one graph, and the graph writes its lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slatewise.config import build, merge
from slatewise.data.prepared import PreparedData, load_data
from slatewise.export.write import export
from slatewise.names import available, plugin
from slatewise.protocols.prepare import prepare
from slatewise.ranker import Ranker
from slatewise.testing.fixtures import EVENTS
from slatewise.testing.method import short_training
from slatewise.training.run import open_run

# Sizes do not matter here, and deep graphs take long to trace.
SMALL: dict[str, dict[str, Any]] = {
    "degre": {"reward": {"options": {"list_layers": 1}}, "mining": {"width": 2}},
    "degre-goalrank": {"dense": {"mining": {"width": 2}}},
    "reward-search": {"width": 2},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Users with histories, times and contexts, so that there is everything to read."""
    path = tmp_path_factory.mktemp("export") / "data"
    prepare(
        "store-events",
        "catalogue-v1",
        None,
        path,
        dataset_options=dict(EVENTS),
        protocol_options={"history": 12},
    )
    return load_data(path)


def fit(method: str, data: PreparedData, folder: Path, options: dict[str, Any]) -> Ranker:
    module = plugin("methods", method)
    config = build(module.Config, merge(short_training(module.Config, 3), options), where=method)
    ranker: Ranker = module.fit(config, data, open_run(folder, seed=1, resume=False, quiet=True))
    return ranker


@pytest.mark.slow
@pytest.mark.parametrize("method", available("methods"))
def test_the_graph_of_every_method_writes_its_lists(method: str, data: PreparedData, tmp_path: Path) -> None:
    ranker = fit(method, data, tmp_path / "run", SMALL.get(method, {}))
    artifact = export(ranker, tmp_path / "artifact", data=data, requests=64)
    form = artifact.manifest.backends[0]
    assert form.name == "onnxruntime"
    assert form.agreement.requests > 64
    assert form.agreement.identical == form.agreement.requests
