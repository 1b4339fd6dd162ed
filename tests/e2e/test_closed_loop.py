"""What is served comes back as the log that trains the next ranker: serve, feedback, export, check, prepare, train, ab.

Lists are served by two policies of a tiny simulated store, without a server around them; users click as the store says.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import polars as pl
import torch

from commands import call
from slatewise.ranker import Ranker
from slatewise.serving.features import open_store
from slatewise.serving.log import open_log
from slatewise.serving.recorder import Recorder
from slatewise.serving.records import Exposure, Feedback
from slatewise.simulators.store_v1 import Config, Store

REQUESTS = 400
RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "goalrank" / "own-log.toml"
STEPS = "--set scorer.train.max_steps=3 --set scorer.train.batch_size=32 --set scorer.train.validations=1"


def serve(folder: Path) -> pl.DataFrame:
    """Two arms by user: the store's randomised policy, whose propensities are known, and its scores in order."""
    store = Store(Config(users=60, items=120, candidates=10, length=4, bias=0.0))
    drawn = store.requests(REQUESTS, seed=1)
    sorted_BL = drawn.score_BN.argsort(dim=1, descending=True)[:, :4]
    random_B = drawn.user_B % 2 == 0
    lists_BL = torch.where(random_B[:, None], drawn.logged_BL, sorted_BL)
    feedback = store.sample(drawn.user_B, drawn.item_BN, lists_BL, seed=2)
    asked = store.requests_frame(drawn)
    recorder = Recorder(open_log(str(folder / "log.db")), open_store(str(folder / "features.db")))
    for at, row in enumerate(asked.iter_rows(named=True)):
        served = tuple(row["candidates"][place] for place in lists_BL[at].tolist())
        shown = Exposure(
            request_id=row["request_id"],
            user_id=row["user_id"],
            timestamp=row["timestamp"] * 1_000_000,
            candidates=tuple(row["candidates"]),
            scores=tuple(row["candidate_scores"]),
            served=served,
            propensity=float(drawn.log_prob_B[at].exp()) if random_B[at] else 1.0,
            arm="random" if random_B[at] else "sorted",
            model_version="v1",
        )
        clicked = [place for place, click in enumerate(feedback.click[at].tolist()) if click]
        clicks = [
            Feedback(request_id=row["request_id"], kind="click", position=1 + place) for place in clicked
        ]
        recorder.write([*clicks, *clicks, shown] if at % 5 == 0 else [shown])  # some come early, and twice
        recorder.write([] if at % 5 == 0 else clicks)
    recorder.close()
    store.items_frame().write_parquet(folder / "mylog" / "items.parquet")
    store.users_frame().write_parquet(folder / "mylog" / "users.parquet")
    return asked.with_columns(
        served=pl.Series(asked["candidates"].to_list()).list.gather(pl.Series(lists_BL.tolist())),
        click=pl.Series(feedback.click.tolist()),
    )


def test_the_loop_closes(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mylog").mkdir()
    truth = serve(tmp_path)
    export = "log export --store log.db --out mylog/requests.parquet"
    assert call(monkeypatch, capsys, *shlex.split(export))[0] == 0
    logged = pl.read_parquet(tmp_path / "mylog" / "requests.parquet")
    assert logged["request_id"].equals(truth["request_id"])
    assert logged["exposed"].to_list() == truth["served"].to_list()
    assert logged["feedback_click"].to_list() == truth["click"].to_list()
    assert (logged.filter(arm="sorted")["propensity"] == 1.0).all()
    assert logged.filter(arm="random")["propensity"].is_between(0, 1, closed="none").all()
    code, printed, _ = call(monkeypatch, capsys, *shlex.split("check mylog --json"))
    assert (code, json.loads(printed)["rows"]) == (0, [])
    prepare = "prepare parquet --source mylog --protocol log-v1 --out DATA --set history=6"
    assert call(monkeypatch, capsys, *shlex.split(prepare))[0] == 0
    train = f"train {shlex.quote(str(RECIPE))} --row dnn --data DATA --out RUN --threads 1 {STEPS}"
    assert call(monkeypatch, capsys, *shlex.split(train))[0] == 0
    lists = Ranker.load("RUN").rank(truth.select("request_id", "user_id", "candidates", "candidate_scores"))
    assert lists.height == 4 * REQUESTS
    code, printed, _ = call(monkeypatch, capsys, *shlex.split("ab mylog --burn-in 20 --json"))
    answer = json.loads(printed)
    assert (code, [row["arm"] for row in answer["rows"]]) == (0, ["random", "sorted"])
    assert sum(row["requests"] for row in answer["rows"]) == REQUESTS
    assert answer["shared_units"] == 0
