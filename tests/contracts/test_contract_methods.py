"""Every method of the library is under the public laws, trained for three steps a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slatewise.methods import dnn
from slatewise.names import available
from slatewise.testing import LawBroken, check_method

# Beyond the generators' own lists the proposals are drawn by place, so they know the order of the candidates.
# The six layers of DeGRe's evaluator and its eight prefixes are slow, and no matter here.
OPTIONS: dict[str, dict[str, Any]] = {
    "generator-evaluator": {"lists": 2},
    "degre": {"reward": {"options": {"list_layers": 1}}, "mining": {"width": 2}},
    "degre-goalrank": {"dense": {"mining": {"width": 2}}},
}


@pytest.mark.parametrize("name", available("methods"))
def test_keeps_the_laws(name: str, tmp_path: Path) -> None:
    check_method(name, tmp_path, **OPTIONS.get(name, {}))


def test_the_laws_can_be_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drifting(config, data, run):
        drifting.calls += 1
        return plain(config, data, type(run)(run.path, run.seed + drifting.calls, run.stages, quiet=True))

    drifting.calls, plain = 0, dnn.fit
    monkeypatch.setattr(dnn, "fit", drifting)
    with pytest.raises(LawBroken, match="dnn: the same seed trains to other lists"):
        check_method("dnn", tmp_path)
