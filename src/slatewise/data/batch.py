"""A batch of requests as tensors: everything a model may look at, and the feedback it learns from."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class ListBatch:
    """B requests. Shapes in the names (legend in :mod:`slatewise.types`); F and C differ from field to field.

    Attributes:
        user_B, candidates_BN, history_BH: vocabulary indices, 0 = unknown (and 0 behind a mask's end).
        mask_BN: True where a candidate is real; the real ones come first.
        item_numeric_BNF, item_categories_BNC: features of the candidate as an item.
        candidate_numeric_BNF: features of the candidate in this request (retriever score, price …).
        time_B: seconds since 1970 (UTC) of the request, 0 = unknown.
        history_BH: the user's last H interactions before the list, the newest at the end;
            ``history_feedback_BH`` is the (weighted) feedback each got, ``history_time_BH`` when (as ``time_B``),
            ``history_context_numeric_BHF`` and ``history_context_categories_BHC`` in which context (as the
            request's own), ``history_organic_BH`` True where it was content that is never recommended.
        exposed_BE: the list that was shown, as indices into the candidate axis.
        feedback_BEK: its feedback, aligned with ``exposed_BE``.
        request_B: row of the request in its split.
    """

    user_B: Tensor
    user_numeric_BF: Tensor
    user_categories_BC: Tensor
    time_B: Tensor
    context_numeric_BF: Tensor
    context_categories_BC: Tensor
    candidates_BN: Tensor
    mask_BN: Tensor
    item_numeric_BNF: Tensor
    item_categories_BNC: Tensor
    candidate_numeric_BNF: Tensor
    history_BH: Tensor
    history_mask_BH: Tensor
    history_numeric_BHF: Tensor
    history_categories_BHC: Tensor
    history_organic_BH: Tensor
    history_feedback_BH: Tensor
    history_time_BH: Tensor
    history_context_numeric_BHF: Tensor
    history_context_categories_BHC: Tensor
    exposed_BE: Tensor
    exposed_mask_BE: Tensor
    feedback_BEK: Tensor
    request_B: Tensor

    @property
    def size(self) -> int:
        """B."""
        return self.user_B.shape[0]

    @property
    def num_candidates(self) -> int:
        """N."""
        return self.candidates_BN.shape[1]

    def gain_BE(self, weights: list[float]) -> Tensor:
        """Weighted feedback of the exposed items, 0 behind the end; ``weights`` has one number a feedback kind."""
        weight_K = torch.tensor(weights, dtype=self.feedback_BEK.dtype, device=self.feedback_BEK.device)
        return (self.feedback_BEK @ weight_K) * self.exposed_mask_BE

    def label_BN(self, weights: list[float]) -> Tensor:
        """Weighted feedback on the candidate axis; 0 where none was observed (see :meth:`observed_BN`)."""
        label_BN = torch.zeros(self.candidates_BN.shape, device=self.candidates_BN.device)
        return label_BN.scatter_add(1, self.exposed_BE, self.gain_BE(weights))

    def observed_BN(self) -> Tensor:
        """True where a candidate was exposed, so that its feedback is real."""
        seen_BN = torch.zeros(self.candidates_BN.shape, device=self.candidates_BN.device)
        return seen_BN.scatter_add(1, self.exposed_BE, self.exposed_mask_BE.float()) > 0

    def known_BN(self, unexposed_is_negative: bool) -> Tensor:
        """Candidates whose label is known: those with feedback, or all of them where the protocol labels the others 0."""
        return self.mask_BN if unexposed_is_negative else self.observed_BN()

    def to(self, device: torch.device | str) -> ListBatch:
        """The batch on ``device``."""
        return ListBatch(
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        )

    def take(self, rows: Tensor) -> ListBatch:
        """The chosen requests (long indices or a boolean mask)."""
        return ListBatch(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})
