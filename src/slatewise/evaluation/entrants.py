"""Who takes part in an evaluation: policies of any make, each with a name and its row of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.errors import ConfigError
from slatewise.types import Ranking, Retrieved


@dataclass(frozen=True)
class Entrant:
    """A policy as the evaluation sees it.

    Attributes:
        name: unique among the entrants.   rank: batch to ranking. group: the table's row; runs of one group
        are seeds of one method. kind: ``floor``, ``ceiling`` or ``ranker``.   paper: the paper's numbers by
        metric, printed beside ours.   retrieve: batch and number to items of the whole catalogue; None for a policy
        that cannot search it.   steps: batch to the scores (B, N) of its generator and of its ranker; None for one that has
        not both.
    """

    name: str
    rank: Callable[[ListBatch], Ranking]
    group: str
    kind: str = "ranker"
    paper: dict[str, float] | None = None
    retrieve: Callable[[ListBatch, int], Retrieved] | None = None
    steps: Callable[[ListBatch], tuple[Tensor, Tensor]] | None = None


def entrants(policies: Sequence[Any]) -> list[Entrant]:
    """An entrant for each policy: an :class:`Entrant`, a ranker, or any object with name and rank(batch).

    Rankers of one method and config are seeds of one row. Rankers of one method but other configs get rows
    of their own, named after the first run folder of each. A floor or ceiling that has the name of a ranker's row gives
    way to it: they are the same method, and a row must not mix the two.

    Raises:
        ConfigError: no policy, or two that cannot be told apart.
    """
    found = [_entrant(policy, policies) for policy in policies]
    rows = {entrant.group for entrant in found if entrant.kind == "ranker"}
    found = [entrant for entrant in found if entrant.kind == "ranker" or entrant.group not in rows]
    names = [entrant.name for entrant in found]
    if not names:
        raise ConfigError("name at least one policy to evaluate.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"two policies are called '{twice}'; give each a name of its own.")
    return found


def _entrant(policy: Any, policies: Sequence[Any]) -> Entrant:
    if isinstance(policy, Entrant):
        return policy
    kind = _kind(policy)
    namesakes = [other for other in policies if (other.name, _kind(other)) == (policy.name, kind)]
    alike = [other for other in namesakes if _settings(other) == _settings(policy)]
    group = policy.name if len(alike) == len(namesakes) else f"{policy.name} ({_folder(alike[0])})"
    name = group if len(alike) == 1 or _seed(policy) is None else f"{group} seed {_seed(policy)}"
    # A ranker's `rank` takes tables in the caller's ids; batches go to `rank_batch`.
    rank = getattr(policy, "rank_batch", None) or policy.rank
    return Entrant(
        name,
        rank,
        group,
        kind,
        getattr(policy, "paper", None),
        getattr(policy, "retriever", None),
        getattr(policy, "steps", None),
    )


def _kind(policy: Any) -> str:
    return getattr(policy, "kind", "ranker")


def _settings(policy: Any) -> Any:
    return getattr(getattr(policy, "card", None), "config", None)


def _seed(policy: Any) -> Any:
    return getattr(getattr(policy, "card", None), "seed", None)


def _folder(policy: Any) -> str:
    path = getattr(policy, "path", None)
    return path.name if path is not None else f"seed {_seed(policy)}"
