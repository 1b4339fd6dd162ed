"""A model that knows the whole catalogue: it ranks given candidates, and finds candidates of its own.

Retrieval is by step 2's vectors (one matrix product over the catalogue) where the model has them, else by a beam over
the paths of semantic ids; by ``rerank`` the ranking decoder orders what was found.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from slatewise.candidates import clusters
from slatewise.config import Count, Frozen, Positive, replace
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.errors import ConfigError
from slatewise.generators import oneranker
from slatewise.generators.oneranker import OneRanker, Places, Wants
from slatewise.modules.path_search import search_paths
from slatewise.policies import Policy
from slatewise.policies._found import best, unmet
from slatewise.policies.decode import sort_by_score, sorted_answer
from slatewise.types import Answer, Ranking, Retrieved

Search = Literal["auto", "vectors", "paths"]


class Config(Frozen):
    """The model, and how it searches the catalogue.

    Attributes:
        search: ``vectors`` (a model with step 2) or ``paths``; ``auto`` takes the first of them that there is.
        width: of the beam over paths, at least; a beam is never narrower than what is asked for.
        rerank: the ranking decoder, where there is one, orders what was found, the best so many or as many as are asked
            for, if that is more; 0: they stay in the generator's order, which finds more of what is wanted; the decoder
            brings up more new items.
        repeats: items of the request's history may be recommended again.
        clustered: the fake items stand for the items below this index; 0: for those that training saw.
    """

    model: oneranker.Config
    search: Search = "auto"
    width: Positive = 100
    rerank: Count = 0
    repeats: bool = False
    clustered: Count = 0


class Catalogue(Policy):
    """See the module's text."""

    def __init__(self, model: OneRanker, config: Config) -> None:
        super().__init__()
        self.model, self.config = model, config
        self._vectors: tuple[tuple[tuple[int, int], ...], Tensor] | None = None
        if config.search == "vectors" and model.target is None:
            raise ConfigError('search is "vectors", but the model has no step 2; use "paths" or "auto".')

    @torch.no_grad()
    def rank(self, batch: ListBatch, length: int) -> Ranking:
        """The sort of the candidates by the last step's score."""
        return sort_by_score(self.model.score_candidates(batch), batch, length)

    @torch.no_grad()
    def answer(self, batch: ListBatch, length: int) -> Answer:
        """The sort with its probability, the last step's scores being logits of Plackett–Luce."""
        return sorted_answer(self.model, batch, length)

    @property
    def two_steps(self) -> bool:
        """True for a model with a generator and a ranking decoder."""
        return self.model.decoder is not None

    @torch.no_grad()
    def step_scores(self, batch: ListBatch) -> tuple[Tensor, Tensor]:
        """Scores of the candidates by the generator and by the ranking decoder, (B, N) each."""
        places, items = self.model.at_requests(batch), self.model.items
        wants = self.model.wants(places)
        item_BND = items(batch.candidates_BN, batch.item_categories_BNC, batch.item_numeric_BNF)
        generator_BN = self.model.generator_scores(places, wants, item_BND, batch.candidates_BN)
        return generator_BN, self.model.ranker_scores(places, wants, item_BND, batch.mask_BN)

    @torch.no_grad()
    def retrieve(self, batch: ListBatch, count: int) -> Retrieved:
        """The best items of the catalogue for each request, never one twice; the history is encoded once."""
        places = self.model.at_requests(batch)
        wants = self.model.wants(places)
        if self.model.decoder is None or not self.config.rerank:
            return self._found(batch, places, wants, count)
        found = self._found(batch, places, wants, max(count, self.config.rerank))
        return self._ranked(places, wants, found, count)

    def item_vectors(self) -> Tensor:
        """Vectors (I, V) of all items by their vocabulary index, made once: what an index such as faiss is filled with.

        Raises:
            ConfigError: the model has no step 2.
        """
        self._check_vectors()
        version = tuple((t.data_ptr(), t._version) for t in (*self.model.parameters(), *self.model.buffers()))
        if self._vectors is None or self._vectors[0] != version:
            with torch.no_grad():
                index_I = torch.arange(len(self.model.items.codes_IS), device=self.model.log_scale.device)
                self._vectors = version, self.model.item_vectors(self.model.items.of(index_I))
        return self._vectors[1]

    @torch.no_grad()
    def request_vectors(self, batch: ListBatch) -> Tensor:
        """Vectors (B, V) whose inner product with an item's is the generator's score: what that index is asked with.

        Raises:
            ConfigError: the model has no step 2.
        """
        self._check_vectors()
        wants = self.model.wants(self.model.at_requests(batch))
        assert wants is not None
        return wants.vector_RV

    def _check_vectors(self) -> None:
        if self.model.target is None:
            raise ConfigError(
                "this model has no step 2, so no vectors; train oneranker with model.target_aware = true."
            )

    def _found(self, batch: ListBatch, places: Places, wants: Wants | None, count: int) -> Retrieved:
        items, repeats = self.model.items, self.config.repeats
        if wants is not None and self.config.search != "paths":
            score_BI = wants.vector_RV @ self.item_vectors().T
            return best(score_BI, items.catalogue_I, batch, count, repeats)
        wanted = count if repeats else count + batch.history_BH.shape[1]
        width = max(self.config.width, wanted)
        by_path = search_paths(
            self.model.paths,
            places.state_RD,
            items.trie(),
            width=width,
            constrained=True,
            log_weight_J=self.model.head_weight_J.log(),
        )
        found = Retrieved(by_path.items_BW, by_path.mask_BW, by_path.log_prob_BW)
        if not repeats:
            return unmet(found, batch, count)
        return Retrieved(found.items_BK[:, :count], found.mask_BK[:, :count], found.score_BK[:, :count])

    def _ranked(self, places: Places, wants: Wants | None, found: Retrieved, count: int) -> Retrieved:
        item_BKD = self.model.items.of(found.items_BK)
        score_BK = self.model.ranker_scores(places, wants, item_BKD, found.mask_BK)
        score_BK = score_BK.masked_fill(~found.mask_BK, -torch.inf)
        best_BK, place_BK = score_BK.topk(min(count, score_BK.shape[1]))
        return Retrieved(found.items_BK.gather(1, place_BK), found.mask_BK.gather(1, place_BK), best_BK)

    @property
    def has_clusters(self) -> bool:
        """True for a model with fake items."""
        return self.model.target is not None and self.model.target.preference is not None

    def refresh_clusters(self) -> None:
        """Let the fake items know of all items that they do not stand for yet: those that training never saw.

        Raises:
            ConfigError: the model has no fake items.
        """
        target = self.model.target
        if target is None or not self.has_clusters:
            raise ConfigError(
                "this model has no fake items to refresh; train oneranker with target.fake_items above 0."
            )
        index_M = self.model.items.catalogue()
        index_M = index_M[index_M >= (self.config.clustered or self.model.items.trained)]
        with torch.no_grad():
            new_MD = self.model.items.of(index_M).cpu().numpy()
        old = clusters.Clusters(target.centre_JD.cpu().numpy(), target.weight_J.cpu().numpy())
        now = clusters.refresh(old, new_MD)
        target.use_centres(torch.from_numpy(now.centres_KD), torch.from_numpy(now.weight_K))
        self.config = replace(self.config, clustered=len(self.model.items.space_IV))


def build(config: Config, manifest: Manifest) -> Catalogue:
    """The policy with random weights and an empty item table."""
    return Catalogue(oneranker.build(config.model, manifest.schema), config)
