"""Rules against brute force: a list is full whenever a full one exists, and it is the best that greedy choices reach."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise, permutations
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from slatewise.errors import RequestError
from slatewise.export.graph import COUNTED
from slatewise.export.write import export
from slatewise.policies import decode
from slatewise.ranker import Ranker, make_policy, make_ranker
from slatewise.serving.app import create
from slatewise.serving.models import Asked, load_model, row_of
from slatewise.serving.rules import Plan, Rule, check_rules, plan_of
from slatewise.serving.settings import ArmSpec, Settings
from slatewise.serving.wire import RankRequest
from slatewise.testing.backend import example_artifact, example_ranker
from slatewise.testing.fixtures import example_data

N, L = 6, 4
ITEMS = [f"i{at}" for at in range(N)]


def keeps(rules: list[Rule], groups: dict[str, list[Any]], chosen: tuple[int, ...], length: int) -> bool:
    """Whether a list keeps all rules, word by word."""
    for rule in rules:
        if rule.exclude is not None and any(ITEMS[at] in rule.exclude for at in chosen):
            return False
        if rule.pin is not None and (rule.position > length or ITEMS[chosen[rule.position - 1]] != rule.pin):
            return False
        if rule.of is None:
            continue
        of = [groups[rule.of][at] for at in chosen]
        pairs = [(a, b) for a in range(length) for b in range(a) if of[a] is not None and of[a] == of[b]]
        if rule.distance is not None and any(a - b < rule.distance for a, b in pairs):
            return False
        if rule.at_most is not None:
            window = min(rule.window or length, length)
            parts = [of[start : start + window] for start in range(length - window + 1)]
            if any(part.count(one) > rule.at_most for part in parts for one in part if one is not None):
                return False
    return True


def lists(rules: list[Rule], groups: dict[str, list[Any]], length: int = L) -> list[tuple[int, ...]]:
    return [one for one in permutations(range(N), length) if keeps(rules, groups, one, length)]


ITEM = st.sampled_from([*ITEMS, "other"])
RULES = st.lists(
    st.one_of(
        st.builds(Rule, exclude=st.lists(ITEM, max_size=4)),
        st.builds(Rule, pin=ITEM, position=st.integers(1, L + 1)),
        st.builds(
            Rule,
            of=st.sampled_from("ab"),
            at_most=st.integers(1, 2),
            window=st.none() | st.integers(1, L + 1),
        ),
        st.builds(Rule, of=st.sampled_from("ab"), distance=st.integers(1, L)),
    ),
    min_size=1,
    max_size=6,
).filter(lambda rules: sum(rule.of is not None for rule in rules) <= COUNTED)
GROUPS = st.fixed_dictionaries(
    {name: st.lists(st.sampled_from([None, "x", "y", "z", 7]), min_size=N, max_size=N) for name in "ab"}
)


@settings(max_examples=400, deadline=None)
@given(rules=RULES, groups=GROUPS, order=st.permutations(range(N)))
def test_a_full_list_is_found_whenever_there_is_one(rules: list[Rule], groups: Any, order: list[int]) -> None:
    plan, dropped = plan_of(rules, ITEMS, groups, L)
    kept = [rule for place, rule in enumerate(rules) if f"rules[{place}]" not in dropped]
    possible = lists(kept, groups)
    assert possible
    assert plan.length == L
    assert bool(dropped) == (not lists(rules, groups))
    for place, rule in enumerate(rules):
        if f"rules[{place}]" in dropped:  # for more important rules, and nothing can bring it back
            before = [one for at, one in enumerate(rules[:place]) if f"rules[{at}]" not in dropped]
            assert not lists([*before, rule], groups)
            assert not lists([*kept, rule], groups)
    rank = {at: place for place, at in enumerate(order)}
    first = min(possible, key=lambda one: [rank[at] for at in one])
    assert plan.greedy(order) == list(first)
    assert not any(plan.holds(one) != (one in set(possible)) for one in permutations(range(N), len(first)))


def masked(plan: Plan, wishes: Any) -> list[int]:
    """What a loop writes that takes, at each position, its first wish which the masks leave open."""
    for _ in range(L + 1):
        allowed, chosen = plan.allowed(L, N), list[int]()
        for position in range(plan.length):
            open_now = [at for at in wishes[position] if at not in chosen]
            fine = [at for at in open_now if allowed[position, at] and plan.holds([*chosen, at])]
            chosen.append((fine or open_now)[0])
        written = plan.repaired(chosen)
        if written is not None:
            return written
    raise AssertionError("a position was narrowed twice")


@settings(max_examples=200, deadline=None)
@given(rules=RULES, groups=GROUPS, wishes=st.lists(st.permutations(range(N)), min_size=L, max_size=L))
def test_a_masked_loop_is_narrowed_until_its_list_is_full(
    rules: list[Rule], groups: Any, wishes: Any
) -> None:
    """A loop that takes its first wish which the masks leave open ends where exhaustive search would."""
    plan, dropped = plan_of(rules, ITEMS, groups, L)
    kept = [rule for place, rule in enumerate(rules) if f"rules[{place}]" not in dropped]
    possible = lists(kept, groups)
    best: list[int] = []
    for position in range(plan.length):
        best.append(
            next(
                at
                for at in wishes[position]
                if any(list(one[: position + 1]) == [*best, at] for one in possible)
            )
        )
    assert masked(plan, wishes) == best


def test_a_hard_search_ends_and_its_list_keeps_what_is_left() -> None:
    """Rules whose check would take ages: some are dropped, in no time, and what remains is kept."""
    rng = np.random.default_rng(0)
    items = [f"j{at}" for at in range(200)]
    groups = {name: [int(one) for one in rng.integers(0, 40, 200)] for name in "abcd"}
    rules = [Rule(pin=items[at], position=30 - at) for at in range(8)]
    rules += [Rule(of=name, distance=29) for name in "abcd"]
    started = time.perf_counter()
    plan, dropped = plan_of(rules, items, groups, 30)
    chosen = plan.greedy(rng.permutation(200).tolist())
    assert time.perf_counter() - started < 2
    assert plan.holds(chosen)
    assert len(chosen) == 30
    assert all(path in {f"rules[{place}]" for place in range(12)} for path in dropped)


@settings(max_examples=200, deadline=None)
@given(rules=RULES, groups=GROUPS, wishes=st.lists(st.permutations(range(N)), min_size=L, max_size=L))
def test_used_up_nodes_leave_a_list_that_keeps_the_rules(rules: list[Rule], groups: Any, wishes: Any) -> None:
    plan, _ = plan_of(rules, ITEMS, groups, L)
    plan.budget[0] = 0
    for order in wishes:
        chosen = plan.greedy(order)
        assert plan.holds(chosen)
        assert len(chosen) == L
    written = masked(plan, wishes)
    assert plan.holds(written)
    assert len(written) == L


@pytest.mark.parametrize("length", [4, 30])
def test_many_rules_on_many_candidates_are_planned_in_no_time(length: int) -> None:
    """64 rules on 1,024 candidates, most of which contradict each other."""
    rng = np.random.default_rng(0)
    items = [f"j{at}" for at in range(1024)]
    groups = {name: rng.integers(0, length, 1024).tolist() for name in "abcd"}
    rules = [Rule(of=name, distance=length) for name in "abcd"]
    rules += [Rule(pin=items[at], position=length - at % length) for at in range(60)]
    started = time.perf_counter()
    plan, dropped = plan_of(rules, items, groups, length)
    chosen = plan.greedy(rng.permutation(1024).tolist())
    assert time.perf_counter() - started < 1.0
    assert plan.holds(chosen)
    assert len(chosen) == length
    assert len(dropped) >= 60 - length


# --- over the wire ---


@pytest.fixture(scope="module", params=["greedy", "sorts"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, Ranker]]:
    """A generator that writes position by position, and one that sorts by a score."""
    if request.param == "greedy":
        ranker, path = example_ranker(), example_artifact("eager").path
    else:
        torch.manual_seed(0)
        spec = decode.Config(generator="scorer", options={"tower": {"width": 16}})
        policy = make_policy("decode", msgspec.to_builtins(spec), example_data().manifest)
        ranker = make_ranker("example", spec, "decode", spec, {"": policy}, example_data(), 0)
        path = tmp_path_factory.mktemp("sorts") / "artifact"
        export(ranker, path, backends=["eager"])
    with TestClient(
        create(Settings(arms=(ArmSpec(name="main", path=str(path)),), watch_seconds=0.0))
    ) as client:
        yield client, ranker


def by_hand(ranker: Ranker, rules: list[Rule], groups: dict[str, list[Any]]) -> list[str]:
    """At each position the most probable candidate from which a full list that keeps the rules is possible."""
    batch = ranker.transform.batch(pl.DataFrame({"candidates": [ITEMS]}))
    possible, chosen = lists(rules, groups), list[int]()
    generator = ranker.policy.generator
    memory = generator.encode(batch)
    for position in range(len(possible[0])):
        padded = torch.tensor([[chosen + [0] * (L - position)]])
        with torch.no_grad():
            logits_N = generator.list_logits(memory, padded)[0, 0, position]
        order = logits_N[:N].argsort(descending=True).tolist()
        able = {one[position] for one in possible if list(one[:position]) == chosen}
        chosen.append(next(at for at in order if at in able))
    return [ITEMS[at] for at in chosen]


CASES: list[tuple[list[dict[str, Any]], dict[str, list[Any]]]] = [
    ([{"exclude": ["i0", "i1", "other"]}], {}),
    ([{"pin": "i5", "position": 2}], {}),
    ([{"pin": "i5", "position": 4}, {"of": "a", "at_most": 1}], {"a": ["x", "x", "w", "y", "z", "x"]}),
    ([{"of": "a", "distance": 2}], {"a": ["x", "x", "x", "x", "y", "y"]}),
    ([{"of": "a", "at_most": 1, "window": 3}, {"of": "b", "at_most": 2}], {"a": ["x", "y", "z", "x", "y", "z"], "b": [1, 1, 1, 2, 2, 2]}),
    ([{"exclude": ITEMS[:2]}, {"of": "a", "distance": 3}], {"a": ["x"] * 3 + ["y", "z", "x"]}),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "groups"), CASES)
def test_the_servers_list_is_the_best_that_keeps_the_rules(served: Any, rules: Any, groups: Any) -> None:
    client, ranker = served
    asked = {"candidates": ITEMS, "rules": rules, "groups": groups}
    answer = client.post("/v1/rank", json=asked).json()
    assert answer["items"] == by_hand(ranker, [Rule(**rule) for rule in rules], groups)
    assert answer["dropped_rules"] == []
    plain = {"candidates": ITEMS}
    several = client.post("/v1/rank", json=[plain, asked, plain, asked]).json()
    assert [one["items"] for one in several[1::2]] == [answer["items"]] * 2
    assert several[0]["items"] == client.post("/v1/rank", json=plain).json()["items"]


def test_a_rule_that_cannot_be_kept_is_named(served: Any) -> None:
    client, _ = served
    rules = [{"pin": "i1", "position": 1}, {"of": "a", "at_most": 1}, {"pin": "i2", "position": 2}]
    groups = {"a": ["x"] * 3 + ["y"] * 3}
    answer = client.post("/v1/rank", json={"candidates": ITEMS, "rules": rules, "groups": groups}).json()
    assert answer["dropped_rules"] == ["rules[1]"]
    assert answer["items"][:2] == ["i1", "i2"]
    gone = client.post("/v1/rank", json={"candidates": ITEMS, "rules": [{"exclude": ITEMS}]}).json()
    assert (gone["dropped_rules"], len(gone["items"])) == (["rules[0]"], L)


def test_a_list_is_full_even_where_excluded_items_have_to_fill_it(served: Any) -> None:
    client, _ = served
    few = {"candidates": ITEMS, "rules": [{"pin": "i5", "position": 4}, {"exclude": ITEMS[:3]}]}
    answer = client.post("/v1/rank", json=few).json()
    assert (answer["dropped_rules"], len(answer["items"]), answer["items"][3]) == (["rules[1]"], L, "i5")
    kept = {"candidates": ITEMS, "rules": [{"exclude": ITEMS[:3]}], "length": 3}
    answer = client.post("/v1/rank", json=kept).json()
    assert (answer["dropped_rules"], sorted(answer["items"])) == ([], ITEMS[3:])


def test_a_rule_comes_back_where_what_it_clashed_with_is_gone() -> None:
    """Three pins at one place: the first stays, and so does everything that it leaves possible."""
    pins = [Rule(pin=item, position=1) for item in ("i0", "i1", "i2")]
    plan, dropped = plan_of([*pins, Rule(exclude=["i5"])], ITEMS, {}, L)
    assert dropped == ["rules[1]", "rules[2]"]
    assert plan.out == {5}


def test_categories_of_items_are_groups(served: Any) -> None:
    client, ranker = served
    items = ranker.transform.items
    column = next(column for column in items.features.columns if hasattr(column, "values")).column
    code = items.table.categories[items.vocab.encode(pl.Series(ITEMS)), 0].tolist()
    asked = {"candidates": ITEMS, "rules": [{"of": column, "distance": 2}]}
    answer = client.post("/v1/rank", json=asked).json()
    of = [code[ITEMS.index(item)] for item in answer["items"]]
    assert answer["dropped_rules"] or all(a != b for a, b in pairwise(of))
    unknown = client.post("/v1/rank", json={"candidates": ITEMS, "rules": [{"of": "colour", "distance": 2}]})
    assert (unknown.status_code, unknown.json()["error"]["field"]) == (422, "rules[0].of")


def test_a_fallback_keeps_the_rules() -> None:
    model = load_model("main", example_artifact("eager").path)
    request = RankRequest(
        candidates=ITEMS,
        scores=[0.1, 0.9, 0.8, 0.7, 0.2, 0.3],
        rules=[Rule(of="a", at_most=1)],
        groups={"a": [1, 2, 2, 2, 3, 4]},
    )
    listed = model.fallback(Asked(request, "r", 0, row_of(request, 0)), "deadline")
    assert listed.items == ["i1", "i5", "i4", "i0"]


WRONG = [
    ({}, "rules[0]"),
    ({"exclude": ["i1"], "distance": 2, "of": "a"}, "rules[0]"),
    ({"distance": 2}, "rules[0].of"),
    ({"exclude": [], "of": "a"}, "rules[0].of"),
    ({"pin": "i1"}, "rules[0].position"),
    ({"exclude": [], "position": 1}, "rules[0].position"),
    ({"of": "a", "distance": 2, "window": 3}, "rules[0].window"),
    ({"of": "a", "at_most": 0}, "rules[0].at_most"),
    ({"pin": "i1", "position": 10**6}, "rules[0].position"),
]


@pytest.mark.parametrize(("rule", "field"), WRONG)
def test_rules_that_are_none_are_said(rule: Any, field: str) -> None:
    with pytest.raises(RequestError) as said:
        check_rules([Rule(**rule)], N)
    assert said.value.field == field


def test_too_many_rules_are_said() -> None:
    for rules in ([Rule(of="a", distance=1)] * 5, [Rule(exclude=[])] * 65):
        with pytest.raises(RequestError, match="at most"):
            check_rules(rules, N)
