"""Writing an item as its path of codes: heads, each a distribution over paths.

J heads read one state (multi-token prediction, GPR Eq. 3); each writes a complete path by itself, level
by level, P_j(path) = product over s of P_j(c_s | state, c_1 … c_{s-1}). Together they are one policy over items,
pi(item) = sum over j of w_j P_j(path of item): what a head alone is sure of counts, what several find counts more. The
search for its best items stands in :mod:`~slatewise.modules.path_search`.

Shapes, besides the legend in :mod:`slatewise.types`: J heads, N paths, S levels, K codes a level, M children of a node.
``...`` are any axes in front.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slatewise.modules.trie import Trie


class PathHeads(nn.Module):
    """J distributions over paths, given a state.

    At each level the logits are those of one hidden layer, whose input is the head's state and the codes so far:
    Linear(GELU(Linear(state of head j) + sum of embeddings of the codes before)). The head's part is computed once,
    however many paths are asked about. Heads differ in their states and share everything else.

    Args:
        width: D of the states.
        heads, levels, codes: J, S, K.
        dropout: on the hidden layer.
    """

    def __init__(self, width: int, heads: int, levels: int, codes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.levels, self.codes = heads, levels, codes
        self.head = nn.Linear(width, heads * width)
        self.start = nn.Linear(width, levels * width)
        # a level's embeddings of all codes before it, one table: code c of level s is row s * K + c
        self.earlier = nn.ModuleList(nn.Embedding(s * codes, width) for s in range(1, levels))
        self.score = nn.ModuleList(nn.Linear(width, codes) for _ in range(levels))
        self.drop = nn.Dropout(dropout)
        for table in self.earlier:
            nn.init.normal_(table.weight, std=0.05)  # type: ignore[arg-type]

    def log_prob(self, state: Tensor, codes_JS: Tensor, trie: Trie | None = None) -> Tensor:
        """Log-probability (..., J) of one path a head, teacher-forced, in nats.

        Args:
            state: (..., D).
            codes_JS: head j's path (..., J, S), or one for all heads (..., 1, S).
            trie: the softmax of a level is over the codes that may follow there, so that the items of the trie
                have all the probability; a path that is none of theirs has -inf. Without it, over all K codes.
        """
        return self._log_prob(self.starts(state), codes_JS[..., None, :], trie)[..., 0]

    def score_paths(
        self,
        state: Tensor,
        codes_NS: Tensor,
        trie: Trie | None = None,
        places: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Log-probabilities (..., J, N) that every head gives to each of N paths (..., N, S), in nats.

        ``places`` is what :meth:`Trie.find` says of the paths, where somebody has asked already.
        """
        if places is not None:
            places = places[0][..., None, :, :], places[1][..., None, :]
        return self._log_prob(self.starts(state), codes_NS[..., None, :, :], trie, places)

    def level_logits(self, starts: list[Tensor], prefix_Ns: Tensor) -> Tensor:
        """Logits (..., J, N, K) of the code behind N prefixes (..., 1 or J, N, s); one row for all where s is 0.

        Args:
            starts: :meth:`starts` of the state.
        """
        level = prefix_Ns.shape[-1]
        hidden_JND = starts[level]
        if level:
            row_Ns = prefix_Ns + torch.arange(level, device=prefix_Ns.device) * self.codes
            hidden_JND = hidden_JND + self.earlier[level - 1](row_Ns).sum(-2)
        logits: Tensor = self.score[level](self.drop(F.gelu(hidden_JND)))
        return logits.float()

    def starts(self, state: Tensor) -> list[Tensor]:
        """Each head's part of the hidden layer at each level, S times (..., J, 1, D)."""
        head_JD = state[..., None, :] + F.gelu(self.head(state)).unflatten(-1, (self.heads, -1))
        return list(self.start(head_JD)[..., None, :].chunk(self.levels, -1))

    def _log_prob(
        self,
        starts: list[Tensor],
        codes_NS: Tensor,
        trie: Trie | None,
        places: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(..., J, N) for paths (..., 1 or J, N, S)."""
        nodes_NS, known_N = (None, None)
        if trie is not None:
            nodes_NS, known_N = trie.find(codes_NS) if places is None else places
        total = starts[0].new_zeros(())
        for level in range(self.levels):
            logits_JNK = self.level_logits(starts, codes_NS[..., :level])
            shared = logits_JNK.shape[-2] == 1
            allowed = None
            if trie is not None and nodes_NS is not None:
                node_N = nodes_NS[..., level]
                allowed = trie.children(level, node_N[..., :1] if shared else node_N)[1:]
            total = total + _at(logits_JNK, codes_NS[..., level]) - normaliser(logits_JNK, allowed)
        return total if known_N is None else total.masked_fill(~known_N, -torch.inf)


def _at(logits_JNK: Tensor, code_N: Tensor) -> Tensor:
    """The logits (..., J, N) of one code each (..., 1 or J, N); the paths may share a row."""
    heads = logits_JNK.shape[-3]
    code_JN = code_N.expand(*code_N.shape[:-2], heads, -1)
    if logits_JNK.shape[-2] == 1:
        return logits_JNK[..., 0, :].gather(-1, code_JN)
    return logits_JNK.gather(-1, code_JN[..., None])[..., 0]


def normaliser(logits_JNK: Tensor, allowed: tuple[Tensor, ...] | None) -> Tensor:
    """(..., J, N) logarithm of the sum over all codes, or over the ``allowed`` (codes and which are real, (..., M))."""
    if allowed is None:
        return logits_JNK.logsumexp(-1)
    code_NM, real_NM = allowed
    logits_JNM = logits_JNK.gather(-1, code_NM.expand(*logits_JNK.shape[:-1], -1))
    return logits_JNM.masked_fill(~real_NM, -torch.inf).logsumexp(-1)


def mixture(log_prob_JN: Tensor, log_weight_J: Tensor | None = None) -> Tensor:
    """Log-probability (..., N) under the heads together, from each head's (..., J, N).

    Args:
        log_weight_J: (J,) or (..., J), logarithms of weights that add up to 1; equal ones by default.
    """
    if log_weight_J is None:
        return log_prob_JN.logsumexp(-2) - math.log(log_prob_JN.shape[-2])
    return (log_prob_JN + log_weight_J[..., None]).logsumexp(-2)
