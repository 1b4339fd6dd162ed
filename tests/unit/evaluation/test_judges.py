"""Judges: shared lists as trees, a recurrent judge's two ways of reading, what they learn from, and from whom."""

from __future__ import annotations

from itertools import combinations, permutations
from math import comb, perm
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from batches import close, make_batch
from factories import make_columns, make_data, make_schema
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import JUDGES, PreparedData, load_data
from slatewise.data.tables import write_table
from slatewise.errors import ConfigError, DataError
from slatewise.evaluation.judge_training import JudgeConfig, fit_judge, judge_loss
from slatewise.evaluation.judges import Mean, TrainedJudge, gru, pointwise
from slatewise.evaluation.judges._shared import all_lists, all_sets, random_lists
from slatewise.names import available, plugin
from slatewise.training.loop import TrainConfig
from slatewise.training.run import Run

KINDS = available("evaluation.judges")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """300 requests to train on, 320 for judges, and users 1 to 11 in both (only the file matters here)."""
    path = tmp_path_factory.mktemp("judges") / "d"
    made = make_data(path, rows={"train": 300}, fewest=3)
    write_table(path / f"{JUDGES}.arrow", make_columns(made.schema, 320, 99, 3))
    return load_data(path)


def untrained(kind: str, data: PreparedData) -> TrainedJudge:
    torch.manual_seed(3)
    module = plugin("evaluation.judges", kind)
    judge: TrainedJudge = module.build(module.Config(width=8), data.manifest)
    for weight in judge.parameters():
        torch.nn.init.normal_(weight, std=0.3 if kind == "sets" else 0.5)
    # 64 wide, or deeper: at 0.5 every logit would be far out
    torch.nn.init.normal_(judge.features.vector.weight, std=0.05)
    return judge.eval()


def config(kind: str, epochs: float = 4, **changes: object) -> JudgeConfig:
    train = TrainConfig(epochs=epochs, batch_size=32, learning_rate=1e-2, keep="last")
    return JudgeConfig(kind=kind, options={"width": 8}, train=train, **changes)  # type: ignore[arg-type]


def run(path: Path) -> Run:
    return Run(path / "run", 7, path / "stages", quiet=True, device="cpu")


def test_there_are_three_kinds() -> None:
    assert KINDS == ["gru", "pointwise", "sets"]


def test_trees_hold_the_lists() -> None:
    shared = random_lists(6, 4, 300, 0)
    assert all(len(set(one)) == 4 for one in shared.lists_GL.tolist())
    for levels, lists_GL in (
        (shared.beginnings, shared.lists_GL),
        (shared.endings, shared.lists_GL.flip(1)),
    ):
        for depth, level in enumerate(levels):
            assert torch.equal(level.item_P[level.place_G], lists_GL[:, depth])
            assert len(level.item_P) == len({tuple(one) for one in lists_GL[:, : depth + 1].tolist()})
            if depth:
                assert torch.equal(level.parent_P[level.place_G], levels[depth - 1].place_G)


def test_random_lists_are_uniform_and_follow_their_seed() -> None:
    """Of 12 ordered pairs of 4, each comes in a twelfth of 12,000 draws (standard deviation 30)."""
    lists_GL = random_lists(4, 2, 12_000, 1).lists_GL
    count = np.bincount((4 * lists_GL[:, 0] + lists_GL[:, 1]).numpy(), minlength=16)
    assert np.abs(count[count > 0] - 1000).max() < 150
    assert (count > 0).sum() == 12
    assert not torch.equal(lists_GL, random_lists(4, 2, 12_000, 2).lists_GL)


def test_all_lists_and_all_sets_are_all_of_them() -> None:
    whole = torch.cat([part.lists_GL for part in all_lists(5, 3)])
    assert whole.tolist() == [list(one) for one in permutations(range(5), 3)]
    assert len(whole) == perm(5, 3)
    assert all_sets(5, 3).lists_GL.tolist() == [list(one) for one in combinations(range(5), 3)]
    assert len(all_sets(12, 6).lists_GL) == comb(12, 6) == 924
    with pytest.raises(ConfigError, match="enumerates at most"):
        all_lists(50, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_shared_lists_are_worth_what_they_are_worth_alone(kind: str, data: PreparedData) -> None:
    """Folded = unfolded, for random lists, for parts of all lists, and whatever the batch is cut into."""
    judge, batch = untrained(kind, data), make_batch(7)
    memory = judge.encode(batch)
    for shared in (random_lists(10, 4, 200, 0), all_lists(5, 3)[2], all_sets(6, 4)):
        plain_BG = judge.value_of(memory, shared.lists_GL.expand(7, -1, -1))
        assert plain_BG.std(1).min() > 0.001
        assert close(judge.value_of_shared(memory, 7, shared), plain_BG)
    if kind == "gru":
        before = judge.value_of_shared(memory, 7, shared)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(gru.STATES, "cpu", 1)  # one request at a time
            assert close(judge.value_of_shared(memory, 7, shared), before)


def test_order_counts_for_the_recurrent_judge_alone(data: PreparedData) -> None:
    batch, orders = make_batch(3), torch.tensor(list(permutations([1, 4, 7, 9])))
    for kind, moved in (("gru", True), ("sets", False), ("pointwise", False)):
        judge = untrained(kind, data)
        value_BG = judge.value_of(judge.encode(batch), orders.expand(3, -1, -1))
        assert bool((value_BG.std(1) > 1e-3).all()) == moved
        assert judge.order_free != moved


def test_neighbours_count_for_the_judges_of_lists_alone(data: PreparedData) -> None:
    batch, beside = make_batch(3), torch.tensor([[1, 4, 7], [1, 4, 8], [1, 2, 8]])
    for kind, moved in (("gru", True), ("sets", True), ("pointwise", False)):
        judge = untrained(kind, data)
        first_BG = judge.place_logits(judge.encode(batch), beside.expand(3, -1, -1))[..., 0]
        assert bool((first_BG.std(1) > 1e-5).any()) == moved
        assert judge.alone != moved


@pytest.mark.parametrize("kind", KINDS)
def test_a_judges_best_list_has_no_better_neighbour(kind: str, data: PreparedData) -> None:
    judge, batch = untrained(kind, data), make_batch(4)
    memory = judge.encode(batch)
    best_BL = judge.best(memory, batch.mask_BN, 4)
    value_B1 = judge.value_of(memory, best_BL[:, None])
    every = torch.cat([judge.value_of_shared(memory, 4, part) for part in all_lists(10, 4)], 1)
    assert (every > value_B1 + 1e-6).float().mean() < 0.001
    if judge.order_free:
        assert close(value_B1[:, 0], every.amax(1))


class Knowing(TrainedJudge):
    """Its logits are the labels: 20 for a positive, -20 for any other."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weights = weights

    def item_states(self, batch: ListBatch) -> Tensor:
        return 40.0 * batch.label_BN(self.weights) - 20.0

    def place_logits(self, memory: Tensor, lists_BGL: Tensor) -> Tensor:
        return memory[:, None].expand(-1, lists_BGL.shape[1], -1).gather(2, lists_BGL)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("negatives", [True, False])
def test_the_loss_pairs_each_place_with_its_items_label(alone: bool, negatives: bool, tmp_path: Path) -> None:
    """Nothing for a judge that knows, 20 a place for one that believes the opposite, also in short requests."""
    data = make_data(tmp_path / "d", rows={"train": 64}, fewest=2, unexposed_is_negative=negatives)
    batch, rng = data.split("train").batch(slice(0, 64)), torch.Generator()
    judge = Knowing(data.manifest.target_weights())
    judge.alone = alone
    assert float(judge_loss(judge, batch, data.manifest, 3, rng)) < 1e-6
    judge.weights = [-w for w in judge.weights]
    if not negatives:  # a positive is now at -60, any other still at -20
        label_BE = batch.feedback_BEK[..., 0][batch.exposed_mask_BE]
        wanted = 60 * float(label_BE.mean())
        assert float(judge_loss(judge, batch, data.manifest, 3, rng)) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_judge_learns_and_is_trained_once(kind: str, data: PreparedData, tmp_path: Path) -> None:
    judge = fit_judge(config(kind), data, run(tmp_path))
    batch = data.split("test").batch(slice(0, 40))
    label_BN = batch.label_BN(data.manifest.target_weights())
    alone_BN = judge.value_of(judge.encode(batch), torch.arange(10).expand(40, -1)[..., None])
    seen_BN = batch.observed_BN() & batch.mask_BN
    liked, not_liked = alone_BN[seen_BN & (label_BN > 0)], alone_BN[seen_BN & (label_BN == 0)]
    assert float((liked[:, None] > not_liked).float().mean()) > 0.6
    weights = next((tmp_path / "stages").glob(f"judge-{kind}-disjoint-*/model.safetensors"))
    before = weights.stat().st_mtime_ns
    again = fit_judge(config(kind), data, run(tmp_path))
    assert weights.stat().st_mtime_ns == before
    assert close(again.value_of(again.encode(batch), torch.arange(10).expand(40, -1)[..., None]), alone_BN)
    fit_judge(config(kind, 0.1, seed=1), data, run(tmp_path))
    assert len(list((tmp_path / "stages").iterdir())) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_several_members_are_averaged(kind: str, data: PreparedData, tmp_path: Path) -> None:
    two = fit_judge(config(kind, 0.1, members=2), data, run(tmp_path))
    assert isinstance(two, Mean)
    batch, lists = data.split("test").batch(slice(0, 8)), torch.rand(8, 5, 10).argsort(2)[..., :4]
    first = fit_judge(config(kind, 0.1), data, run(tmp_path))  # its first member, trained already
    assert len(list((tmp_path / "stages").iterdir())) == 2
    values = [member.value_of(member.encode(batch), lists) for member in two.members]
    assert close(values[0], first.value_of(first.encode(batch), lists))
    assert not close(values[0], values[1])
    assert close(two.value_of(two.encode(batch), lists), (values[0] + values[1]) / 2)
    shared = random_lists(10, 4, 20, 0)
    whole = shared.lists_GL.expand(8, -1, -1)
    assert close(two.value_of_shared(two.encode(batch), 8, shared), two.value_of(two.encode(batch), whole))
    assert two.order_free == first.order_free


def test_who_a_judge_learns_from(data: PreparedData, tmp_path: Path) -> None:
    """Its popularity is counted in its own users' lists, and each half trains another judge."""
    both = (config("pointwise", 0.1, users=users) for users in ("same", "disjoint"))
    same, disjoint = (fit_judge(one, data, run(tmp_path)) for one in both)
    own = {}
    for name, judge in (("train", same), (JUDGES, disjoint)):
        split = data.split(name)
        shown = np.concatenate([
            row[place[:count]]
            for row, place, count in zip(*(split.columns[c] for c in ("candidates", "exposed", "num_exposed")), strict=True)
        ])  # fmt: skip
        count_I = np.log1p(np.bincount(shown, minlength=data.schema.items))
        own[name] = judge.features.log_count_I.numpy()  # type: ignore[union-attr]
        assert np.corrcoef(own[name], count_I)[0, 1] == pytest.approx(1.0)
    assert not np.allclose(own["train"], own[JUDGES])


def test_items_that_came_to_the_same_users_start_close_together(data: PreparedData) -> None:
    """Two worlds of items, each shown to users of its own: the start vectors tell them apart."""
    manifest = msgspec.structs.replace(data.manifest, schema=make_schema(users=200, items=201))
    judge = pointwise.build(pointwise.Config(width=8), manifest)
    rng = np.random.default_rng(0)
    users = rng.integers(1, 200, 600)
    items = 1 + 2 * rng.permuted(np.tile(np.arange(100), (600, 1)), axis=1)[:, :10] + users[:, None] % 2
    columns = {
        "user": users,
        "candidates": items,
        "exposed": np.tile(np.arange(10), (600, 1)),
        "num_exposed": np.full(600, 10),
    }
    judge.features.learn_items(SimpleNamespace(columns=columns))  # type: ignore[arg-type]
    vector = torch.nn.functional.normalize(judge.features.vector.weight[1:].detach(), dim=1)
    like = vector @ vector.T
    same = (torch.arange(200)[:, None] - torch.arange(200)) % 2 == 0
    assert float(like[same].mean()) > float(like[~same].mean()) + 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_popularity_of_the_rankers_half_is_not_read(kind: str, data: PreparedData) -> None:
    judge, batch = untrained(kind, data), make_batch(3)
    column = data.schema.item_numeric.index("log_popularity")
    before = judge.encode(batch)
    batch.item_numeric_BNF[..., column] += 5
    batch.history_numeric_BHF[..., column] -= 5
    assert torch.equal(judge.encode(batch), before)
    batch.item_numeric_BNF[..., 1 - column] += 5
    assert not torch.equal(judge.encode(batch), before)


def test_what_cannot_grade_is_refused(data: PreparedData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown judge 'gruu'"):
        JudgeConfig(kind="gruu").check("j")
    with pytest.raises(ConfigError, match="needs the row whose reward it is"):
        JudgeConfig(kind="self").check("j")
    with pytest.raises(ConfigError, match="needs the row whose reward it is"):
        JudgeConfig(kind="gru", row="goalrank").check("j")
    with pytest.raises(ConfigError, match="lists is 10, but must be at least 100"):
        JudgeConfig(kind="gru", lists=10).check("j")
    with pytest.raises(ConfigError, match="one kind of yes-or-no feedback"):
        fit_judge(config("gru"), data.with_target({"click": 0.5}), run(tmp_path))
    plain = make_data(tmp_path / "plain", make_schema())
    with pytest.raises(DataError, match="no split 'judges'"):
        fit_judge(config("gru"), plain, run(tmp_path))
    assert pointwise.Config().width == 32
