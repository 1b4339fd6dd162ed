"""The suites at tiny sizes: rows, agreement of both ways, memory, files, and the command line."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import torch

from slatewise.benchmarks import decode, inputs, memory, mine, results, retrieve, timing, train_step
from slatewise.benchmarks.agreement import differences
from slatewise.benchmarks.group_step import GatheredScore, our_loss, plain_loss, step
from slatewise.benchmarks.plain import best, write_plainly
from slatewise.benchmarks.rows import Expectation, Row, compared, judged
from slatewise.cli import bench
from slatewise.config import build, to_plain
from slatewise.errors import ConfigError
from slatewise.names import available

SMALL = {"generator": {"tower": {"width": 32}, "encoder_layers": 1}, "history": 3}
TRAIN = build(train_step.Config, {**SMALL, "batch": 4, "candidates": 8, "length": 3, "lists": 3, "rounds": 1})
FIELDS = {"name", "value", "unit", "reference", "ratio"}
MIB = 2**20


def quiet(what: str, share: float) -> None:
    assert what
    assert 0 <= share <= 1


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory measured here, since a fresh process takes seconds to import torch."""

    def here(make: Any, *arguments: Any, **settings: Any) -> int:
        return max(memory.peak_here(make(*arguments)), 1)  # a small step may fit into what the process has

    for suite in (train_step, mine):
        monkeypatch.setattr(suite, "peak_apart", here)


def check_rows(rows: list[Row]) -> None:
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert set(to_plain(row)) == FIELDS
        assert row.value >= 0
        if row.ratio is not None:
            assert row.reference is not None
            assert row.ratio == pytest.approx(row.value / row.reference)


def test_the_folder_holds_the_suites() -> None:
    assert available("benchmarks") == ["decode", "mine", "retrieve", "serve", "train-step"]


@pytest.mark.usefixtures("in_this_process")
def test_train_step_rows() -> None:
    rows = train_step.run(TRAIN, quiet)
    check_rows(rows)
    assert [expected.row for expected, _ in judged(rows, train_step.EXPECTED)] == [
        "training rate",
        "peak memory",
    ]
    difference = {row.name: row.value for row in rows if row.name.startswith("largest difference")}
    assert len(difference) == 2
    assert max(difference.values()) < 1e-5


def test_both_ways_compute_the_same_log_probabilities_and_gradients() -> None:
    setup = train_step.make_bench(TRAIN, 4)
    assert max(differences(setup)) < 1e-5
    setup.generator.position.data = setup.generator.position.data.flip(0)  # the comparison can fail
    with torch.no_grad():
        lists_BL, log_prob_BL = write_plainly(setup.generator, setup.batch, 3, best)
        setup.generator.position.data = setup.generator.position.data.flip(0)
        ours_B1L = setup.generator.log_prob(setup.generator.encode(setup.batch), lists_BL[:, None])
    assert (ours_B1L[:, 0] - log_prob_BL).abs().max() > 1e-3


@pytest.mark.parametrize("loss", [our_loss, plain_loss])
def test_a_step_of_either_way_trains_the_whole_generator(loss: Any) -> None:
    setup = train_step.make_bench(TRAIN, 4)
    before = {name: weight.detach().clone() for name, weight in setup.generator.named_parameters()}
    step(setup, loss)
    moved = {
        name for name, weight in setup.generator.named_parameters() if not torch.equal(weight, before[name])
    }
    assert {"score.weight", "position", "tower.item.id.weight"} <= moved
    assert any(name.startswith("decoder") for name in moved)
    assert any(name.startswith("encoder") for name in moved)


def test_the_fixed_reward_is_the_discounted_gather() -> None:
    batch = inputs.make_batch(inputs.make_schema(4, 2), 2, seed=0)
    lists_BGL = torch.tensor([[[0, 1], [3, 2]], [[2, 0], [1, 3]]])
    score_BN, weight = batch.candidate_numeric_BNF[..., 0], 1 / torch.log2(torch.tensor(3.0))
    value_BG = GatheredScore().value(batch, lists_BGL)
    assert value_BG[1, 0].item() == pytest.approx((score_BN[1, 2] + weight * score_BN[1, 0]).item())
    reward = GatheredScore()
    longer_BGN = reward.extension_value(reward.encode(batch), lists_BGL[:, :, :1])
    assert longer_BGN[1, 0, 0].item() == pytest.approx(value_BG[1, 0].item())


@pytest.mark.parametrize("encode_once", [True, False])
def test_plain_greedy_lists_are_the_decoder_s(encode_once: bool) -> None:
    setup = train_step.make_bench(TRAIN, 4)
    setup.generator.eval()
    with torch.no_grad():
        plain_BL, log_prob_BL = write_plainly(setup.generator, setup.batch, 3, best, encode_once=encode_once)
    ours_BL, log_prob_B = decode.our_greedy(setup.generator, setup.batch, 3)
    assert torch.equal(plain_BL, ours_BL)
    torch.testing.assert_close(log_prob_BL.sum(1), log_prob_B, atol=1e-5, rtol=0)


def test_decode_rows() -> None:
    grid = {"candidates": (6, 8), "lengths": (3,), "batches": (1, 4)}
    sampling = {"lists": 3, "sample_candidates": 8, "sample_length": 3, "seconds": 0.0}
    online = {"online": {"candidates": 6, "length": 3, "batches": (2,), "width": 2, "lists": 3}}
    rows = decode.run(build(decode.Config, {**SMALL, **grid, **sampling, **online}), quiet)
    check_rows(rows)
    greedy = {
        f"greedy N={n} L=3 B={b}, {way} re-run"
        for n in (6, 8)
        for b in (1, 4)
        for way in ("whole network", "decoder")
    }
    sample = {
        f"sample N=8 L=3 B={b}, one by one, encoded {way}" for b in (1, 4) for way in ("once", "each time")
    }
    against = ("beam search 2 under the evaluator", "generator-evaluator, 3 lists")
    policies = {f"online N=6 L=3 B=2, degre, greedy, against {other}" for other in against}
    assert {row.name for row in rows} == greedy | sample | policies


MINE = build(
    mine.Config,
    {
        "settings": [
            {"candidates": 6, "mining": {"width": 3}},
            {"candidates": 8, "mining": {"width": 3, "top_k": 4}},
        ],
        "length": 3,
        "batch": 4,
        "plain_batch": 2,
        "history": 3,
        "seconds": 0.0,
        "options": {"tower": {"width": 16}},
    },
)


@pytest.mark.usefixtures("in_this_process")
def test_mine_rows_and_both_ways_find_the_same_lists() -> None:
    rows = mine.run(MINE, quiet)
    check_rows(rows)
    difference = [row.value for row in rows if row.name.endswith("largest difference of values")]
    assert len(difference) == 2
    assert max(difference) < 1e-5
    assert sum("re-scored whole" in row.name for row in rows) == 2
    setup = mine.make_bench(MINE, 1, 4)
    for once in (True, False):
        assert torch.equal(mine.plain(setup, encode_once=once)[0], mine.ours(setup)[0])


RETRIEVE = build(
    retrieve.Config,
    {
        "items": [30, 60],
        "top": 8,
        "heads": 2,
        "ids": {"codes": 4},
        "lengths": [2, 5],
        "hstu": {"width": 16, "layers": 1},
        "seconds": 0.0,
    },
)


def test_retrieve_rows() -> None:
    rows = retrieve.run(RETRIEVE, quiet)
    check_rows(rows)
    ways = ("beam search along the trie", "the same, normalised over the trie", "step 2 and its vectors")
    catalogue = {
        f"{what}, I={i}, {way}" for what in ("one user", "candidates") for i in (30, 60) for way in ways
    }
    once = {f"{what}, I={i}" for what in ("building the trie", "learning semantic ids") for i in (30, 60)}
    history = {f"history of {n} tokens, against 2" for n in (2, 5)}
    more = {f"one more token behind {n - 1}, against reading all" for n in (2, 5)}
    assert {row.name for row in rows} == catalogue | once | history | more


@pytest.mark.parametrize("suite", [train_step, decode, mine, retrieve])
def test_what_is_expected_is_measured_with_the_default_config(suite: Any) -> None:
    config = suite.Config()
    if suite is decode:
        names = {f"{case.name}, whole network re-run" for case in decode._cases(config)}
        assert all(expected.row in names for expected in suite.EXPECTED)
    elif suite is mine:
        names = {f"{s.name(config.length)}, every expanded prefix re-scored whole" for s in config.settings}
        assert {expected.row for expected in suite.EXPECTED} == names
    elif suite is retrieve:
        rows = {f"one user, I={max(config.items)}, beam search along the trie"}
        assert {expected.row for expected in suite.EXPECTED} == rows | {"one more token behind 999"}
        assert max(config.lengths) == 1000
    else:
        assert (config.batch, config.candidates, config.length, config.lists) == (128, 50, 6, 20)
        tower, generator = config.generator.tower, config.generator
        assert (tower.width, generator.encoder_layers, generator.decoder_layers) == (128, 2, 2)


def test_more_places_than_candidates_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="candidates = 2, but a list of length 3"):
        train_step.run(build(train_step.Config, {"candidates": 2, "length": 3}), quiet)
    with pytest.raises(ConfigError, match="greedy N=2 L=3 B=1"):
        decode.run(build(decode.Config, {"candidates": (2,), "lengths": (3,), "batches": (1,)}), quiet)
    with pytest.raises(ConfigError, match="N=2 L=6 beam 8"):
        mine.run(build(mine.Config, {"settings": [{"candidates": 2, "mining": {}}]}), quiet)
    with pytest.raises(ConfigError, match="top = 100, but a catalogue has only 50 items"):
        retrieve.run(build(retrieve.Config, {"items": [50]}), quiet)
    for nothing in ("items", "lengths"):
        with pytest.raises(ConfigError, match=f"length >= 1 - at `[$].{nothing}`"):
            build(retrieve.Config, {nothing: []})


def test_peak_memory_is_that_of_the_work() -> None:
    assert memory.peak_here(lambda: torch.ones(64 * MIB // 4).sum()) == pytest.approx(64 * MIB, rel=0.1)
    assert memory.peak_here(lambda: None) < MIB


def thirty_two() -> timing.Work:
    """Builds 64 MiB, then works with 32 MiB."""
    held = torch.ones(64 * MIB // 4)
    return lambda: torch.ones(32 * MIB // 4).sum() + held[0]


@pytest.mark.slow
def test_peak_memory_apart_counts_the_work_alone_and_keeps_its_limit() -> None:
    found = memory.peak_apart(thirty_two, device="cpu", threads=1, limit=256 * MIB)
    assert found == pytest.approx(32 * MIB, rel=0.2)
    assert memory.peak_apart(thirty_two, device="cpu", threads=1, limit=16 * MIB) is None


@pytest.mark.parametrize(
    ("limit", "micro", "tried"),
    [(8, 8, [2, 4, 8]), (100, 16, [2, 4, 16]), (1.5, 2, [2, 4]), (0.6, 1, [2, 4, 1])],
)
def test_the_largest_micro_batch_that_fits(
    monkeypatch: pytest.MonkeyPatch, limit: float, micro: int, tried: list[int]
) -> None:
    asked: list[int] = []

    def half_a_gib_each(config: train_step.Config, side: str, size: int) -> int | None:
        asked.append(size)
        needed = size * train_step.GIB // 2
        return needed if needed <= config.memory_gib * train_step.GIB else None

    monkeypatch.setattr(train_step, "peak", half_a_gib_each)
    found, peaks = train_step.fit_plain(build(train_step.Config, {"batch": 16, "memory_gib": limit}))
    assert (found, asked) == (micro, tried)
    assert train_step.extrapolated(peaks, 16) == pytest.approx(8 * train_step.GIB)


def test_medians_and_operations() -> None:
    a = torch.randn(8, 16, requires_grad=True)
    assert timing.operations(lambda: (a @ torch.ones(16, 4)).sum().backward()) == 2 * (2 * 8 * 16 * 4)
    ticks: list[int] = []
    seconds = timing.median_seconds({"a": lambda: None, "b": lambda: None}, 3, tick=lambda: ticks.append(1))
    assert set(seconds) == {"a", "b"}
    assert len(ticks) == 3


def test_result_files_say_what_was_expected(tmp_path: Any) -> None:
    bounds = [Expectation(row="rate", at_least=10.0), Expectation(row="memory", at_most=0.5)]
    rows = [compared("rate of this", 30.0, "lists/s", 2.0), compared("memory", 3.0, "MiB", 4.0)]
    result = results.Result(
        suite="s",
        hardware="A(R) Chip @ 2.10GHz, 2 cores",
        date="2026-01-01",
        rows=rows,
        expected=bounds,
        config={},
        made_by={},
    )
    files = results.save(result, tmp_path / "new")
    assert [file.name for file in files] == [
        f"s_a-chip-2.10ghz-2-cores_2026-01-01.{end}" for end in ("json", "md")
    ]
    assert sorted(files) == sorted((tmp_path / "new").iterdir())
    assert msgspec.json.decode(files[0].read_bytes(), type=results.Result) == result
    page = files[1].read_text()
    assert "| rate of this | ratio at least 10 | 15 | yes |" in page
    assert "| memory | ratio at most 0.5 | 0.75 | no |" in page


def test_bench_prints_one_object(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = [
        "candidates=[6]",
        "lengths=[2]",
        "batches=[4]",
        "sample_candidates=6",
        "sample_length=2",
        "seconds=0",
        "online.batches=[1]",
    ]
    bench.command("decode", [*tiny, "lists=2", "generator.tower.width=32"], tmp_path, as_json=True)
    printed = capsys.readouterr().out
    answer = json.loads(printed)
    assert len(printed.splitlines()) == 1
    assert answer["suite"] == "decode"
    assert all(set(row) == FIELDS for row in answer["rows"])
    assert answer["config"]["generator"]["tower"]["width"] == 32
    assert "other processes" in answer["made_by"]["what else ran"]
    assert len(list(tmp_path.iterdir())) == 2
    bench.command("decode", [*tiny, "lists=2", "generator.tower.width=32"])
    assert "greedy N=6 L=2 B=4" in capsys.readouterr().out


def test_bench_sets_its_threads() -> None:
    before = torch.get_num_threads()
    try:
        with pytest.raises(ConfigError, match="Did you mean 'train-step'"):
            bench.command("train-stp", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_an_unknown_setting_is_explained() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'lengths'"):
        bench.command("decode", ["lenghts=[2]"])


@pytest.mark.gpu
def test_train_step_on_cuda() -> None:
    check_rows(train_step.run(msgspec.structs.replace(TRAIN, device="cuda"), quiet))
