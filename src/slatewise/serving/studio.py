"""A page to look at: one request, the lists of all rankers side by side, each step's probabilities, what a rule does, live traffic.

Rendered here, without scripts but for the numbers that move; nothing comes from elsewhere. What is asked on it is not logged.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

import msgspec
import torch
from jinja2 import Environment, StrictUndefined

from slatewise.data.fields import batch_of
from slatewise.errors import RequestError, SlatewiseError
from slatewise.policies.decode import Decode
from slatewise.ranker import Ranker
from slatewise.serving.models import Asked, Listed, Model, row_of
from slatewise.serving.records import now
from slatewise.serving.rules import Rule
from slatewise.serving.service import Service
from slatewise.serving.traffic import Traffic
from slatewise.serving.wire import RankRequest, read_rank

RECENT = 20  # requests of the log to choose from
SHOWN = 12  # candidates of a step, the most probable first


@dataclass
class Studio:
    """The page of a server. Rankers are opened in PyTorch when it is first looked at, for their steps."""

    service: Service
    traffic: Traffic
    opened: dict[str, Ranker] = field(default_factory=dict)

    def page(self, body: bytes, nonce: str) -> str:
        """The page for what a form sent, or the empty one."""
        form = {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}
        recent = self._recent()
        chosen = form.get("chosen", "")
        written = form.get("request", "")
        if form.get("action") == "pick" and chosen in recent:
            written = recent[chosen]
        rules = form.get("rules", "")
        fault, lists, table = "", [], []
        if written.strip():
            try:
                request, own = _request(written), _rules(rules)
                ruled = msgspec.structs.replace(request, rules=[*request.rules, *own])
                models = list(self.service.fleet.models.values())
                for model in models:
                    self.service.check(ruled, model)
                table = _candidates(request)
                lists = [self._column(model, request, ruled) for model in models]
            except RequestError as error:
                fault = str(error)
        written = written or _example(self.service)
        return _template().render(
            nonce=nonce,
            recent=list(recent),
            chosen=chosen,
            written=written,
            rules=rules,
            fault=fault,
            lists=lists,
            table=table,
            traffic=self.traffic.last(),
            rankers=[(name, model.version) for name, model in self.service.fleet.models.items()],
            refused=self.service.fleet.refused,
        )

    def _recent(self) -> dict[str, str]:
        """The last requests of the log, as they could be sent again."""
        if self.service.recorder is None:
            return {}
        try:
            return {one.request_id: _written(one) for one in self.service.recorder.recent(RECENT)}
        except SlatewiseError:
            return {}

    def _column(self, model: Model, request: RankRequest, ruled: RankRequest) -> dict[str, Any]:
        """What one ranker makes of it: its list, its list under the rules, and the steps of the latter."""
        plain = msgspec.structs.replace(request, rules=[])
        found = {
            name: self._listed(model, one)
            for name, one in (("plain", plain), ("ruled", ruled))
            if name == "plain" or one.rules
        }
        shown = found.get("ruled", found["plain"])
        steps = self._steps(model, request, shown) if isinstance(shown, Listed) else []
        return {
            "name": model.name,
            "version": model.version,
            "shadow": self.service.fleet.arms[model.name].shadow,
            "lists": {name: _rows(one, found["plain"]) for name, one in found.items()},
            "fault": next((str(one) for one in found.values() if isinstance(one, Exception)), ""),
            "dropped": shown.dropped if isinstance(shown, Listed) else (),
            "steps": steps,
        }

    def _listed(self, model: Model, request: RankRequest) -> Listed | Exception:
        at = now()
        return model.rank([Asked(request, "studio", at, row_of(request, at))])[0]

    def _steps(self, model: Model, request: RankRequest, listed: Listed) -> list[list[dict[str, Any]]]:
        """For each position the probabilities of what remained; none for a ranker that writes no list step by step."""
        ranker = self.opened.get(model.version)
        if ranker is None:
            ranker = self.opened[model.version] = Ranker.load(model.artifact.path)
        if not isinstance(ranker.policy, Decode):
            return []
        at = now()
        drawn = model.features.draw(
            [row_of(request, at)], [at], given=[request] if request.user or request.items else None
        )
        batch, generator = batch_of(drawn), ranker.policy.generator
        order = [list(map(str, request.candidates)).index(str(item)) for item in listed.items]
        with torch.no_grad():
            log_prob_LN = generator.log_probs(generator.encode(batch), torch.tensor([[order]]))[0, 0]
        return [_step(request, log_prob_N, order, place) for place, log_prob_N in enumerate(log_prob_LN)]


def _step(
    request: RankRequest, log_prob_N: torch.Tensor, order: Sequence[int], place: int
) -> list[dict[str, Any]]:
    taken = set(order[:place])
    share = log_prob_N[: len(request.candidates)].exp().tolist()
    best = sorted((at for at in range(len(share)) if at not in taken), key=lambda at: -share[at])[:SHOWN]
    if order[place] not in best:
        best.append(order[place])
    return [{"item": request.candidates[at], "share": share[at], "chosen": at == order[place]} for at in best]


def _rows(listed: Listed | Exception, plain: Listed | Exception) -> list[dict[str, Any]]:
    if isinstance(listed, Exception):
        return []
    before = plain.items if isinstance(plain, Listed) else []
    return [
        {
            "item": item,
            "score": None if listed.scores is None else listed.scores[place],
            "moved": place >= len(before) or before[place] != item,
        }
        for place, item in enumerate(listed.items)
    ]


def _candidates(request: RankRequest) -> list[dict[str, Any]]:
    """The candidates with everything that the request says of each."""
    columns: dict[str, Sequence[Any]] = {"score": request.scores} if request.scores else {}
    columns |= {**request.features, **request.groups}
    return [
        {"item": item, **{name: values[at] for name, values in columns.items()}}
        for at, item in enumerate(request.candidates)
    ]


def _request(written: str) -> RankRequest:
    requests, several = read_rank(written.encode())
    if several:
        raise RequestError("body", "is a list; this page shows one request at a time.")
    return msgspec.structs.replace(requests[0], record=False)


def _rules(written: str) -> list[Rule]:
    if not written.strip():
        return []
    try:
        return msgspec.json.decode(written.encode(), type=list[Rule])
    except msgspec.DecodeError as error:
        raise RequestError("rules", f"are no list of rules: {error}.") from None


def _written(exposure: Any) -> str:
    kept = {"user_id": exposure.user_id, "timestamp": exposure.timestamp, "candidates": exposure.candidates}
    more = {"scores": exposure.scores, "features": exposure.features, "context": exposure.context}
    return json.dumps(kept | {name: value for name, value in more.items() if value}, ensure_ascii=False)


def _example(service: Service) -> str:
    """A request of items that the first ranker knows."""
    model = next(iter(service.fleet.models.values()))
    known = model.features.transform.items.vocab.ids.head(8).to_list()
    scores = [round(1.0 - at / 10, 1) for at in range(len(known))]
    return json.dumps({"candidates": known, "scores": scores}, ensure_ascii=False)


def nonce() -> str:
    """For the one script of a page."""
    return secrets.token_urlsafe(12)


def policy(nonce: str) -> str:
    """The Content-Security-Policy: nothing from elsewhere, and no script but ours."""
    return f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; form-action 'self'; base-uri 'none'"


@cache
def _template() -> Any:
    text = resources.files("slatewise.serving").joinpath("studio.html").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %" if math.isfinite(share) else "–"
    environment.filters["number"] = lambda value: (
        "" if value is None else f"{value:.3g}" if isinstance(value, float) else value
    )
    return environment.from_string(text)
