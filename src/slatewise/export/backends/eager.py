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

    def __init__(self, graph: Graph, ruled: Graph) -> None:
        self.graph, self.ruled = graph, ruled

    def rank(self, feed: Feed) -> Served:
        """The answers of the policy itself."""
        return _run(self.graph, feed)

    def rank_ruled(self, feed: Feed) -> Served:
        """The same under rules."""
        return _run(self.ruled, feed)


@torch.inference_mode()
def _run(graph: Graph, feed: Feed) -> Served:
    tensors = [torch.from_numpy(feed[field.name]) for field in graph.read]
    return Served(*(tensor.numpy() for tensor in graph(*tensors)))


def load(artifact: Artifact, config: Config) -> Eager:
    """The ranker of the artifact's folder.

    Raises:
        RunError: it is damaged.
    """
    ranker = Ranker.load(artifact.path)
    everything = inputs_of(made_up(artifact.transform, rows=1, candidates=1))
    graphs = [
        Graph(ranker.policy, everything, artifact.manifest.inputs, ranker.length, ruled)
        for ruled in (False, True)
    ]
    return Eager(*graphs)
