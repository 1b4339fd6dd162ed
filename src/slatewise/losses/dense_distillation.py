"""DeGRe's hybrid distillation (§4.2, §4.4): imitate mined lists, and align with the evaluator's value of every alternative."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Above0, Frozen, Weight
from slatewise.losses._mean import masked_mean


class DistillationConfig(Frozen):
    """Weights and temperatures of Eq. 9, 10 and 13; the paper has alpha 0.01, no soft temperature, and does not give tau_w.

    Attributes:
        hard: imitate the list itself; off is Table 4's "w/o hard label".
        alpha: weight of the soft labels; 0 is "w/o soft label".
        soft_temperature: divides the values in Eq. 9 (1 in the paper), in units of feedback. Siblings differ by about 1
            at the most, so at 1 the soft label is close to uniform.
        weigh: Eq. 10; off treats all lists of a request alike ("w/o seq weighting").
        tau_w: temperature of Eq. 10, in units of feedback.
    """

    hard: bool = True
    alpha: Weight = 0.01
    soft_temperature: Above0 = 1.0
    weigh: bool = True
    tau_w: Above0 = 0.1


def soft_labels(step_value_BGLN: Tensor, temperature: float, valued_BGLN: Tensor) -> Tensor:
    """Eq. 9: q_t (B, G, L, N), the softmax of the values of all one-item extensions of a list's prefix.

    Args:
        step_value_BGLN: values in units of feedback, up to a constant a position (which Eq. 9 does not see).
        temperature: in units of feedback.
        valued_BGLN: False where an item may not stand; it gets exactly no weight, unless none may stand there.
    """
    scaled_BGLN = step_value_BGLN.float() / temperature
    return scaled_BGLN.masked_fill(~valued_BGLN, torch.finfo(scaled_BGLN.dtype).min).softmax(-1)


def sequence_weights(value_BG: Tensor, mask_BG: Tensor, temperature: float) -> Tensor:
    """Eq. 10: w_l (B, G), the softmax of a request's list values over its distinct lists; 0 where ``mask_BG`` is False.

    ``temperature`` is tau_w, in units of feedback; infinite gives all lists the same weight.
    """
    return (value_BG / temperature).masked_fill(~mask_BG, -torch.inf).softmax(1)


def loss(
    log_prob_BGLN: Tensor,
    lists_BGL: Tensor,
    mask_BL: Tensor,
    weight_BG: Tensor,
    soft_BGLN: Tensor | None = None,
    *,
    hard: bool = True,
    alpha: float = 0.0,
) -> Tensor:
    """Eq. 13: ``sum_l w_l sum_t [CE(v_t, P_t) + alpha KL(q_t || P_t)]``, averaged over requests; in nats.

    The paper trains on single lists, each weighted by B times its w_l; a mean over B such lists is this sum over them.

    Args:
        log_prob_BGLN: the generator's log-probability of every candidate at each position, with gradient; finite and
            very low (``CLOSED``) where a candidate is taken or not real.
        lists_BGL: the lists; item t is the hard label of position t.
        mask_BL: True where lists have an item.
        weight_BG: w_l, which sums to 1 over a request's lists.
        soft_BGLN: q_t, 0 wherever the generator may not choose; needed where ``alpha`` is above 0.
    """
    term_BGL = torch.zeros(lists_BGL.shape, device=lists_BGL.device)
    if hard:
        term_BGL = term_BGL - log_prob_BGLN.gather(3, lists_BGL[..., None]).squeeze(3)
    if alpha > 0:
        assert soft_BGLN is not None
        term_BGL = term_BGL + alpha * (torch.xlogy(soft_BGLN, soft_BGLN) - soft_BGLN * log_prob_BGLN).sum(-1)
    term_BG = term_BGL.masked_fill(~mask_BL[:, None], 0.0).sum(2)
    return masked_mean((weight_BG * term_BG).sum(1), mask_BL.any(1))
