"""Configs: closed, merged over defaults, named in errors; names; seeds."""

from __future__ import annotations

import pytest

from slatewise.config import Frozen, build, fingerprint, merge, parse_overrides
from slatewise.errors import ConfigError
from slatewise.methods import goalrank, prm
from slatewise.names import available, plugin
from slatewise.rng import child_seed


class Inner(Frozen):
    layers: int = 0
    width: int = 64


class Outer(Frozen):
    inner: Inner = Inner(layers=2)
    name: str = "x"


def test_changing_one_key_of_a_nested_config_keeps_the_outer_default_of_the_others() -> None:
    assert build(Outer, {"inner": {"width": 8}}).inner == Inner(layers=2, width=8)
    assert build(prm.Config, {"scorer": {"train": {"epochs": 1}}}).scorer.generator.encoder_layers == 2
    changed = build(goalrank.Config, {"scorers": {"dnn": {"train": {"epochs": 1}}}})
    assert changed.scorers["prm"].loss == "softmax"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inner": {"widht": 3}}, ["'inner.widht'", "Did you mean 'width'?", "layers"]),
        ({"nane": 1}, ["'nane'", "'name'"]),
        ({"inner": {"width": "wide"}}, ["int", "str", "inner.width"]),
    ],
)
def test_a_bad_key_or_value_is_named_with_what_is_allowed(values, words) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, values)
    assert all(word in str(caught.value) for word in words)


def test_overrides_read_toml_values_and_bare_words() -> None:
    found = parse_overrides(["a.b=3", "a.c=[1, 2]", "name=list", "on=true"])
    assert found == {"a": {"b": 3, "c": [1, 2]}, "name": "list", "on": True}
    with pytest.raises(ConfigError, match="key=value"):
        parse_overrides(["nothing"])


def test_merge_goes_table_by_table() -> None:
    assert merge({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2]}) == {
        "a": {"x": 1, "y": 3},
        "b": [2],
    }


def test_fingerprints_follow_values_not_order() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


def test_an_unknown_plugin_names_the_nearest_and_all() -> None:
    assert {"goalrank", "dnn", "prm", "generator-evaluator", "reward-search"} <= set(available("methods"))
    with pytest.raises(
        ConfigError, match=r"unknown method 'goalrnk'\. Did you mean 'goalrank'\? Allowed: .*dnn"
    ):
        plugin("methods", "goalrnk")


def test_child_seeds_differ_by_name_and_repeat() -> None:
    assert child_seed(1, "a", 2) == child_seed(1, "a", 2)
    assert len({child_seed(1, "a"), child_seed(1, "b"), child_seed(2, "a"), child_seed(1, "a", 0)}) == 4
