"""The best items of the whole catalogue under path heads: beam search along the trie, for all requests and heads at once.

The beam holds the best prefixes *of the mixture* of heads, with every head's share of each. So no item is found twice,
its log-probability is that of the one policy that the heads are together, and a beam of full width is brute force.
(Heads that search by themselves find items twice, and know of each only the share of those that found it.)

Shapes, besides the legend in :mod:`slatewise.types`: W prefixes, J heads, S levels, s codes so far, M children of a node.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slatewise.modules.paths import PathHeads, mixture, normaliser
from slatewise.modules.trie import Trie


@dataclass(frozen=True)
class Found:
    """The best items for each request, best first, each once.

    Attributes:
        items_BW: indices into the vocabulary; 0 where the mask is False.
        mask_BW: False behind the end, where the trie has fewer items.
        log_prob_BW: under the heads together, in nats; -inf where the mask is False.
        head_log_prob_BJW: under each head; -inf where the mask is False.
    """

    items_BW: Tensor
    mask_BW: Tensor
    log_prob_BW: Tensor
    head_log_prob_BJW: Tensor


@dataclass(frozen=True)
class _Beam:
    """Prefixes of one level, best first: nodes, codes, whether there are so many, and the two log-probabilities."""

    node_BW: Tensor
    codes_BWs: Tensor
    real_BW: Tensor
    total_BW: Tensor
    head_BJW: Tensor


@torch.no_grad()
def search_paths(
    heads: PathHeads,
    state_BD: Tensor,
    trie: Trie,
    *,
    width: int,
    constrained: bool = False,
    log_weight_J: Tensor | None = None,
) -> Found:
    """The ``width`` best items by :func:`~slatewise.modules.paths.mixture`, whose prefixes stay among the ``width`` best.

    Exact where ``width`` is at least the number of prefixes of each level. A wider beam of which the front is taken
    misses less.

    Args:
        constrained: a level's probabilities add up to 1 over what may follow in the trie, as in
            :meth:`~slatewise.modules.paths.PathHeads.log_prob` with a trie; otherwise over all codes. Only the
            trie's items are found either way.
        log_weight_J: (J,) or (B, J); see :func:`~slatewise.modules.paths.mixture`.
    """
    starts, beam = heads.starts(state_BD), _root(len(state_BD), heads.heads, state_BD.device)
    for level in range(trie.levels):
        logits_BJWK = heads.level_logits(starts, beam.codes_BWs[:, None])
        beam = _extend(
            beam, logits_BJWK, trie.children(level, beam.node_BW), width, constrained, log_weight_J
        )
    return Found(
        trie.item_P[beam.node_BW] * beam.real_BW,
        beam.real_BW,
        beam.total_BW,
        beam.head_BJW.masked_fill(~beam.real_BW[:, None], -torch.inf),
    )


def _root(b: int, heads: int, device: torch.device) -> _Beam:
    node_BW = torch.zeros(b, 1, dtype=torch.long, device=device)
    total_BW = torch.zeros(b, 1, device=device)
    return _Beam(node_BW, node_BW.new_zeros(b, 1, 0), node_BW == 0, total_BW, total_BW.new_zeros(b, heads, 1))


def _extend(
    beam: _Beam,
    logits_BJWK: Tensor,
    children: tuple[Tensor, Tensor, Tensor],
    width: int,
    constrained: bool,
    log_weight_J: Tensor | None,
) -> _Beam:
    """The best children of all prefixes together."""
    child_BWM, code_BWM, real_BWM = children
    heads, fan_out = logits_BJWK.shape[1], child_BWM.shape[2]
    allowed = (code_BWM[:, None], real_BWM[:, None]) if constrained else None
    logit_BJWM = logits_BJWK.gather(-1, code_BWM[:, None].expand(-1, heads, -1, -1))
    rest_BJW = beam.head_BJW - normaliser(logits_BJWK, allowed)
    head_BJP = (logit_BJWM + rest_BJW[..., None]).flatten(2)
    real_BP = (real_BWM & beam.real_BW[..., None]).flatten(1)
    total_BP = mixture(head_BJP, log_weight_J).masked_fill(~real_BP, -torch.inf)
    total_BW, place_BW = total_BP.topk(min(width, total_BP.shape[1]), dim=1)
    before_BWs = torch.take_along_dim(beam.codes_BWs, (place_BW // fan_out)[..., None], 1)
    return _Beam(
        child_BWM.flatten(1).gather(1, place_BW),
        torch.cat([before_BWs, code_BWM.flatten(1).gather(1, place_BW)[..., None]], 2),
        real_BP.gather(1, place_BW),
        total_BW,
        torch.take_along_dim(head_BJP, place_BW[:, None], 2),
    )
