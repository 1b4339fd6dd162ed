"""Every metric of the library is under the public laws."""

from __future__ import annotations

import pytest

from slatewise.metrics import precision
from slatewise.names import available
from slatewise.testing import LawBroken, check_metric

IN_UNITS_OF_FEEDBACK = {"gain"}


@pytest.mark.parametrize("name", available("metrics"))
def test_keeps_the_laws(name: str) -> None:
    check_metric(name, bounded=name not in IN_UNITS_OF_FEEDBACK)


def test_the_laws_can_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_place(config, ranking, label_BN, observed_BN, mask_BN):  # reads meaning into the axis
        return (label_BN[:, 0] > 0).double()

    monkeypatch.setattr(precision, "compute", by_place)
    with pytest.raises(LawBroken, match="precision: permuting the candidates"):
        check_metric("precision")
    with pytest.raises(LawBroken, match="outside 0"):
        check_metric("gain")
