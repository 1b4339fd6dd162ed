"""The ranker as it is, in PyTorch: no graph, no other package; what every other backend is held against."""

from __future__ import annotations

import torch

from slatewise.config import Frozen
from slatewise.export.artifact import Artifact
from slatewise.export.backends import Served
from slatewise.export.feed import Feed, inputs_of
from slatewise.export.graph import Graph
from slatewise.export.made_up import made_up
from slatewise.ranker import Ranker


class Config(Frozen):
    """Nothing to set; it computes on as many threads as torch does."""

    @property
    def files(self) -> tuple[str, ...]:
        """What it needs of an artifact."""
        return ("model.safetensors",)


class Eager:
    """A backend."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @torch.inference_mode()
    def rank(self, feed: Feed) -> Served:
        """The answers of the policy itself."""
        tensors = [torch.from_numpy(feed[field.name]) for field in self.graph.read]
        return Served(*(tensor.numpy() for tensor in self.graph(*tensors)))


def load(artifact: Artifact, config: Config) -> Eager:
    """The ranker of the artifact's folder.

    Raises:
        RunError: it is damaged.
    """
    ranker = Ranker.load(artifact.path)
    everything = inputs_of(made_up(artifact.transform, rows=1, candidates=1))
    return Eager(Graph(ranker.policy, everything, artifact.manifest.inputs, ranker.length))
