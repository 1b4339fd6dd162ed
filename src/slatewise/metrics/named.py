"""Metrics by name, as people write them: ``ndcg@6``, ``auc``, ``ndcg@10:gains=linear``."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

from slatewise.config import build, parse_overrides
from slatewise.errors import ConfigError
from slatewise.names import plugin
from slatewise.types import Ranking


@dataclass(frozen=True)
class Metric:
    """A metric with its options.

    Attributes:
        name: as written in tables, e.g. ``ndcg@6``.
        module: the plug-in.   config: its options.
    """

    name: str
    module: ModuleType
    config: Any

    def compute(self, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor) -> Tensor:
        """One float64 value a request (B,), NaN where undefined."""
        value_B: Tensor = self.module.compute(self.config, ranking, label_BN, observed_BN, mask_BN)
        return value_B.double()

    @property
    def parts(self) -> tuple[Metric, ...]:
        """The metrics whose means give a table's value (F1: precision, recall); empty for plain means."""
        names: tuple[str, ...] = getattr(self.module, "PARTS", ())
        places = getattr(self.config, "at", None)
        at = f"@{places}" if places else ""
        return tuple(parse(name + at) for name in names)

    def pool(self, *means: Tensor) -> Tensor:
        """The table's value from the means of ``parts``."""
        value: Tensor = self.module.pool(*means)
        return value


def parse(text: str) -> Metric:
    """The metric that ``text`` names: ``name``, ``name@places`` or either with ``:option=value,...`` behind.

    Raises:
        ConfigError: no such metric, or it has no such option, or the places are not a positive number.
    """
    head, _, options = text.strip().partition(":")
    name, at, places = head.partition("@")
    module = plugin("metrics", name)
    values = parse_overrides(options.split(",")) if options else {}
    if at:
        values["at"] = _places(text, places, module)
    elif "at" in module.Config.__struct_fields__:
        values.setdefault("at", None)
    return Metric(text.strip(), module, build(module.Config, values, where=f"metric '{text}'"))


def _places(text: str, places: str, module: ModuleType) -> int:
    name = text.partition("@")[0]
    if "at" not in module.Config.__struct_fields__:
        raise ConfigError(f"metric '{name}' has no '@': it is over all candidates; write '{name}'.")
    if not places.isdecimal() or int(places) < 1:
        raise ConfigError(
            f"metric '{text}' needs a whole number of places of at least 1 behind '@', e.g. {name}@6."
        )
    return int(places)
