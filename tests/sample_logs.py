"""Small random logs in the log schema, for tests of preparation and serving."""

from __future__ import annotations

import numpy as np
import polars as pl


def random_requests(
    count: int = 200, *, users: int = 12, items: int = 40, seed: int = 0, strings: bool = False
) -> pl.DataFrame:
    """Requests with 2 to 9 candidates, scores, a price, up to 4 exposed items, feedback, context."""
    rng = np.random.default_rng(seed)
    name = (lambda i: f"i{i}") if strings else int
    offered = [rng.choice(items, rng.integers(2, 10), replace=False) for _ in range(count)]
    shown = [rng.permutation(one)[: rng.integers(1, 5)] for one in offered]
    return pl.DataFrame(
        {
            "request_id": [f"r{row}" for row in range(count)],
            "user_id": [f"u{user}" for user in rng.integers(0, users, count)],
            "timestamp": np.sort(rng.integers(0, count // 2, count)),
            "candidates": [[name(i) for i in one] for one in offered],
            "candidate_scores": [rng.normal(2.0, 3.0, len(one)).tolist() for one in offered],
            "candidate_price": [rng.exponential(10.0, len(one)).tolist() for one in offered],
            "exposed": [[name(i) for i in one] for one in shown],
            "feedback_click": [(rng.random(len(one)) < 0.4).astype(float).tolist() for one in shown],
            "feedback_watch": [rng.exponential(5.0, len(one)).tolist() for one in shown],
            "propensity": rng.random(count),
            "context_hour": rng.integers(0, 24, count),
            "context_device": rng.choice(["phone", "desk", "tv"], count),
            "context_load": rng.normal(5.0, 2.0, count),
        }
    )


def item_table(items: int = 45, seed: int = 0, strings: bool = False) -> pl.DataFrame:
    """Items with a number (some missing), a category, a flag, genres and a title."""
    rng = np.random.default_rng(seed)
    price = rng.exponential(10.0, items)
    return pl.DataFrame(
        {
            "item_id": [f"i{i}" if strings else i for i in range(items)],
            "price": [None if i % 7 == 0 else float(price[i]) for i in range(items)],
            "category": rng.choice(["a", "b", "c"], items),
            "new": rng.random(items) < 0.5,
            "genres": [[["x"], ["x", "y"], [], None][i % 4] for i in range(items)],
            "constant": [3.5] * items,
        }
    )


def user_table(users: int = 15, seed: int = 0) -> pl.DataFrame:
    """Users with an age and a country."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in range(users)],
            "age": rng.normal(40.0, 10.0, users),
            "country": rng.choice(["de", "fr"], users),
        }
    )
