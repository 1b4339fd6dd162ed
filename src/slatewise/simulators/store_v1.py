"""``store-v1``: a simulated store whose response to any list is known in closed form.

List effects are what a reranker is for, and a public log never tells how large they are. Here a click
depends on the user's affinity, the position, and the items above: fatigue by category, complements and price
contrast. Conversion and value follow a click. No code here is shared with a reward model. Formulas and
measured figures stand in ``docs/store.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.errors import ConfigError
from slatewise.rng import numpy_rng
from slatewise.simulators import _frames, _model, _sampling, _search, _world
from slatewise.simulators._enumeration import Standing, all_values, standing
from slatewise.simulators._model import Target
from slatewise.simulators._optimum import optimum
from slatewise.simulators._response import Response
from slatewise.simulators._sampling import Requests

CROWD = 64  # users whose values of all items are computed at once; bounds memory, changes no number


class Config(Frozen):
    """The store's size, its response model and its logging policy. The defaults are ``store-v1``."""

    users: int = 2000
    items: int = 3000
    categories: int = 10
    latent: int = 8
    category_share: float = 0.5  # share of an item vector's variance that its category explains
    candidates: int = 12
    pool: int | None = (
        None  # items the retriever chooses from; None = 5/3 of the candidates (20 for 12, 83 for 50)
    )
    length: int = 6
    world_seed: int = 0
    # click: the logit's terms
    bias: float = -1.5
    affinity: float = 1.6
    quality: float = 0.5
    price: float = 0.3
    position: float = -0.25
    fatigue: float = 0.9
    fatigue_decay: float = 0.7
    complement: float = 0.35
    partners: int = 2
    contrast: float = 0.2
    # conversion, given a click
    conversion_bias: float = -1.0
    conversion_quality: float = 0.6
    conversion_price: float = 0.5
    # retriever and logging policy
    retriever_noise: float = 1.0
    logging_noise: float = 0.7
    # what a ranker sees
    user_noise: float = 0.1
    item_noise: float = 0.0
    quality_noise: float = 0.1

    def pool_size(self) -> int:
        """How many random items the retriever chooses the candidates from."""
        return self.pool if self.pool is not None else -(-5 * self.candidates // 3)

    def check(self) -> None:
        """Refuse sizes that make no store.

        Raises:
            ConfigError: naming the field, what came and what is allowed.
        """
        small = [
            name
            for name in ("users", "categories", "latent", "candidates", "length")
            if getattr(self, name) < 1
        ]
        if small:
            raise ConfigError(f"store: {small[0]} is {getattr(self, small[0])}, but must be at least 1.")
        if not self.length <= self.candidates <= self.pool_size() <= self.items:
            raise ConfigError(
                f"store: needs length <= candidates <= pool <= items, got {self.length}, {self.candidates}, "
                f"{self.pool_size()}, {self.items}."
            )
        if not self.partners < self.categories:
            raise ConfigError(
                f"store: partners is {self.partners}, but must be below categories ({self.categories})."
            )
        if (
            min(self.fatigue, self.complement, self.contrast) < 0
            or min(self.fatigue_decay, self.category_share, 1 - self.fatigue_decay, 1 - self.category_share)
            < 0
        ):
            raise ConfigError(
                "store: fatigue, complement and contrast must be at least 0, fatigue_decay and "
                "category_share between 0 and 1."
            )


@dataclass(frozen=True)
class Feedback:
    """What users did at every position of one list each, all (B, L): 0 or 1, 0 or 1, and the price paid."""

    click: Tensor
    conversion: Tensor
    value: Tensor


class Store:
    """A store of :class:`Config`; the same config is the same store, on any device and number of threads.

    Users and items are rows of its tables (``user_index`` and ``item_index`` turn ids into rows); a list is
    indices into the candidate axis. ``kind`` is ``click``, ``conversion``, ``value``, or weights such as
    ``{"click": 1.0, "value": 0.2}``; a list's value is the expected (weighted) sum over its positions.
    """

    def __init__(self, config: Config | None = None, *, device: torch.device | str = "cpu") -> None:
        self.config = config or Config()
        self.config.check()
        self.device = torch.device(device)
        self._world = _world.create(self.config).to(self.device)

    # --- the response ---

    def expected_feedback(
        self,
        user_B: Tensor,
        item_BN: Tensor,
        lists_BGL: Tensor,
        kind: Target = "click",
        mask_BGL: Tensor | None = None,
    ) -> Tensor:
        """Expected feedback at every position, (B, G, L); for ``click`` it is the probability of a click.

        Where ``mask_BGL`` is given, positions outside it (behind a short list's end) give 0.

        Raises:
            ConfigError: ``kind`` names no feedback of the store or has a negative weight.
        """
        response = self.response(user_B, item_BN, kind)
        lists_BGL = lists_BGL.to(self.device)
        expected_BGL = response.click_probs(lists_BGL) * response.worth(lists_BGL)
        return expected_BGL if mask_BGL is None else expected_BGL * mask_BGL.to(self.device)

    def value(
        self,
        user_B: Tensor,
        item_BN: Tensor,
        lists_BGL: Tensor,
        kind: Target = "click",
        mask_BGL: Tensor | None = None,
    ) -> Tensor:
        """Expected value of every list, (B, G), in clicks, conversions or money."""
        return self.expected_feedback(user_B, item_BN, lists_BGL, kind, mask_BGL).sum(dim=2)

    def sample(self, user_B: Tensor, item_BN: Tensor, lists_BL: Tensor, seed: int) -> Feedback:
        """Draw what the users do with one list each; request b's draws depend on ``seed`` and b alone."""
        click_BL = self.expected_feedback(user_B, item_BN, lists_BL[:, None])[:, 0]
        then_BN, price_BN = _model.after_click(
            self.config, self._world, user_B.to(self.device), item_BN.to(self.device)
        )
        then_BL, price_BL = (table.gather(1, lists_BL.to(self.device)) for table in (then_BN, price_BN))
        clicked = self._uniform(click_BL, seed, "click") < click_BL
        bought = clicked & (self._uniform(click_BL, seed, "conversion") < then_BL)
        return Feedback(clicked.float(), bought.float(), (bought * price_BL).float())

    def _uniform(self, like: Tensor, seed: int, name: str) -> Tensor:
        return torch.from_numpy(numpy_rng(seed, "feedback", name).random(tuple(like.shape))).to(self.device)

    def affinity(self, user_B: Tensor, item_BN: Tensor) -> Tensor:
        """Logit of a click on each candidate, alone at the first position: (B, N)."""
        return _model.affinity(self.config, self._world, user_B.to(self.device), item_BN.to(self.device))

    def alone(self, user_B: Tensor, item_BN: Tensor | None = None, kind: Target = "click") -> Tensor:
        """Expected feedback of each item shown alone at the first position, (B, N); of all items, (B, I), if None.

        Raises:
            ConfigError: ``kind`` names no feedback of the store or has a negative weight.
        """
        if item_BN is None:
            item_BN = torch.arange(self.config.items).expand(len(user_B), -1)
        parts = zip(user_B.to(self.device).split(CROWD), item_BN.to(self.device).split(CROWD), strict=True)
        return torch.cat([_model.alone(self.config, self._world, *part, kind) for part in parts])

    def response(self, user_B: Tensor, item_BN: Tensor, kind: Target = "click") -> Response:
        """The response model of B requests, from which every value, search and bound is computed."""
        return _model.response(
            self.config, self._world, user_B.to(self.device), item_BN.to(self.device), kind
        )

    # --- lists under the true model ---

    def optimum(
        self, user_B: Tensor, item_BN: Tensor, length: int | None = None, kind: Target = "click"
    ) -> tuple[Tensor, Tensor]:
        """The best list of each request and its value, (B, L) and (B,): exact, by branch and bound."""
        return self._chunked(
            user_B, item_BN, kind, lambda response: optimum(response, self._length(item_BN, length))
        )

    def greedy(
        self, user_B: Tensor, item_BN: Tensor, length: int | None = None, kind: Target = "click"
    ) -> tuple[Tensor, Tensor]:
        """At each position the item that adds most: a beam of width 1."""
        return self.beam(user_B, item_BN, 1, length, kind)

    def beam(
        self, user_B: Tensor, item_BN: Tensor, width: int, length: int | None = None, kind: Target = "click"
    ) -> tuple[Tensor, Tensor]:
        """The best list a beam by expected value so far finds, and its value: (B, L), (B,)."""
        long = self._length(item_BN, length)
        return self._chunked(user_B, item_BN, kind, lambda response: _search.beam(response, long, width))

    def local_search(
        self,
        user_B: Tensor,
        item_BN: Tensor,
        lists_BL: Tensor,
        rounds: int | None = None,
        kind: Target = "click",
        *,
        moves: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Steepest ascent by swaps, replacements and ``moves``, to the end if ``rounds`` is None."""
        rows = iter(torch.split(lists_BL.to(self.device), _search.CHUNK))
        return self._chunked(
            user_B,
            item_BN,
            kind,
            lambda response: _search.local_search(response, next(rows), rounds, moves=moves),
        )

    def single_item_sort(
        self, user_B: Tensor, item_BN: Tensor, length: int | None = None, kind: Target = "click"
    ) -> tuple[Tensor, Tensor]:
        """What a perfect model of single items can do: sort by it. The lists and their true values."""

        def sort(response: Response) -> tuple[Tensor, Tensor]:
            order_BL = _search.single_item_sort(response, self._length(item_BN, length))
            return order_BL, response.values(order_BL[:, None])[:, 0]

        return self._chunked(user_B, item_BN, kind, sort)

    def all_values(
        self, user_B: Tensor, item_BN: Tensor, length: int | None = None, kind: Target = "click"
    ) -> Tensor:
        """Expected value of all P(N, L) lists of each request, in the order of ``itertools.permutations``.

        (B, P), float64: 5 MB a request for 12 candidates and 6 places, so ask for few at a time.

        Raises:
            ConfigError: there are more than a million lists a request.
        """
        response, long = self.response(user_B, item_BN, kind), self._length(item_BN, length)
        return torch.stack([all_values(response.rows(slice(b, b + 1)), long) for b in range(response.size)])

    def standing(
        self,
        user_B: Tensor,
        item_BN: Tensor,
        value_BM: Tensor,
        length: int | None = None,
        kind: Target = "click",
        *,
        samples: int = 10_000,
        seed: int = 0,
    ) -> Standing:
        """Rank of M values among all lists of their request, with the mean and the best of all lists.

        Exact where a request has at most a million lists; else among ``samples`` random lists.
        """
        response = self.response(user_B, item_BN, kind)
        return standing(response, self._length(item_BN, length), value_BM.to(self.device), samples, seed)

    def _length(self, item_BN: Tensor, length: int | None) -> int:
        wanted = self.config.length if length is None else length
        if not 1 <= wanted <= item_BN.shape[1]:
            raise ConfigError(f"a list of {wanted} cannot be made of {item_BN.shape[1]} candidates.")
        return wanted

    def _chunked(
        self,
        user_B: Tensor,
        item_BN: Tensor,
        kind: Target,
        search: Callable[[Response], tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        response = self.response(user_B, item_BN, kind)
        starts = range(0, response.size, _search.CHUNK)
        parts = [search(response.rows(slice(start, start + _search.CHUNK))) for start in starts]
        return torch.cat([order for order, _ in parts]), torch.cat([value for _, value in parts])

    # --- logs ---

    def requests(self, count: int, seed: int, *, start: int = 0) -> Requests:
        """``count`` requests with the retriever's candidates and the logging policy's list (Plackett–Luce).

        The first requests of a longer draw are those of a shorter one. ``start`` is the number of requests
        before these, which only moves the clock.
        """
        c, rng = self.config, _sampling.rngs(seed)
        user_B = torch.from_numpy(rng["user"].integers(0, c.users, count))
        pool = torch.from_numpy(_sampling.distinct(rng["pool"], count, c.pool_size(), c.items))
        time_B = _sampling.START + _sampling.GAP * torch.arange(start, start + count)
        return self._answered(user_B, pool, time_B, rng)

    def _answered(
        self,
        user_B: Tensor,
        pool: Tensor,
        time_B: Tensor,
        rng: dict[str, np.random.Generator],
        there: Tensor | None = None,
    ) -> Requests:
        """Requests for whom the retriever chooses from a pool each (where ``there``), and the logging policy's lists."""
        c = self.config
        noise = torch.from_numpy(rng["retriever"].standard_normal(tuple(pool.shape)))
        score = self.affinity(user_B, pool).cpu() + c.retriever_noise * noise
        score = score if there is None else score.masked_fill(~there, -torch.inf)
        kept = torch.from_numpy(_sampling.keep_best(score.numpy(), c.candidates, rng["shuffle"]))
        score_BN = score.gather(1, kept)
        logged_BL, log_prob_B = _sampling.plackett_luce(rng["policy"], score_BN / c.logging_noise, c.length)
        return Requests(
            user_B=user_B.to(self.device),
            item_BN=pool.gather(1, kept).to(self.device),
            score_BN=score_BN.to(self.device),
            logged_BL=logged_BL.to(self.device),
            log_prob_B=log_prob_B.to(self.device),
            timestamp_B=time_B,
        )

    # --- tables, in ids ---

    def users_frame(self) -> pl.DataFrame:
        """``user_id`` and what a ranker may know of each user: tastes, ψ and φ with ``user_noise``."""
        return _frames.users(_world.observe(self._world, self.config))

    def items_frame(self) -> pl.DataFrame:
        """``item_id`` and what a ranker may know of each item."""
        observed = _world.observe(self._world, self.config)
        return _frames.items(observed, self._world.category_I.cpu(), self._world.log_price_I.cpu())

    def requests_frame(self, drawn: Requests, *, first: int = 0) -> pl.DataFrame:
        """What a ranker is asked, in the log schema; ``request_id`` counts from ``first``."""
        return _frames.requests(drawn, first)

    def log_frame(self, drawn: Requests, seed: int, *, first: int = 0) -> pl.DataFrame:
        """The requests with the logged list, its propensity and feedback drawn for it, in the log schema."""
        feedback = self.sample(drawn.user_B, drawn.item_BN, drawn.logged_BL, seed)
        shown = _frames.shown(drawn.item_BN.gather(1, drawn.logged_BL), vars(feedback))
        frame = self.requests_frame(drawn, first=first).with_columns(**shown)
        return frame.with_columns(propensity=pl.Series(drawn.log_prob_B.exp().cpu().numpy()))

    def rows_at(self, user_B: Tensor, time_B: Tensor) -> Tensor:
        """What other methods take for ``user_B``: rows of users at a time (seconds). Here users never change."""
        return user_B

    def on_offer(self, time_B: Tensor) -> Tensor:
        """True (B, I) for the items that can be shown at a time (seconds). Here all of them always can."""
        return torch.ones((len(time_B), self.config.items), dtype=torch.bool, device=self.device)

    def user_index(self, ids: Sequence[str]) -> Tensor:
        """Rows of users such as ``u17``.

        Raises:
            DataError: an id that the store has not.
        """
        return self._index(ids, "u", self.config.users, "user")

    def item_index(self, ids: Sequence[str]) -> Tensor:
        """Rows of items such as ``i204``.

        Raises:
            DataError: an id that the store has not.
        """
        return self._index(ids, "i", self.config.items, "item")

    def _index(self, ids: Sequence[str], letter: str, count: int, what: str) -> Tensor:
        return _frames.index(ids, letter, count, what).to(self.device)


def create(config: Config) -> Store:
    """The store of ``config``."""
    return Store(config)
