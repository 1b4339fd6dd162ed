"""Retrievers: the top k, cross-fitting, and the same bits for the same seed."""

import numpy as np
import pytest

from slatewise.candidates import logged, matrix_factorization, popularity
from slatewise.candidates.retrieval import (
    Fits,
    Interactions,
    Requests,
    Retrieved,
    assign_fits,
    seen_by,
    top_k,
)
from slatewise.errors import DataError

USERS, ITEMS, LISTS, WIDTH = 30, 40, 6, 3


def world(seed: int = 0) -> tuple[Interactions, Requests]:
    """Each user has 6 lists of 3 distinct items; the last list of each tests, the others train."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(ITEMS)[: LISTS * WIDTH] for _ in range(USERS)]).reshape(-1, WIDTH)
    user = np.repeat(np.arange(USERS), LISTS)
    training = np.tile(np.arange(LISTS) < LISTS - 1, USERS)
    return log_of(user, items, training), Requests(user, items, training)


def log_of(user: np.ndarray, items: np.ndarray, training: np.ndarray) -> Interactions:
    rows = np.flatnonzero(training)
    return Interactions(
        np.repeat(user[rows], WIDTH), items[rows].ravel(), np.repeat(rows, WIDTH), USERS, ITEMS
    )


MF = matrix_factorization.Config(factors=4, iterations=3)


def retrieve(
    interactions: Interactions, requests: Requests, config: matrix_factorization.Config = MF
) -> Retrieved:
    return matrix_factorization.retrieve(config, interactions, requests, 5, seed=1)


def test_top_k_by_hand() -> None:
    interactions = Interactions(np.array([0, 1]), np.array([3, 0]), np.array([-1, -1]), 2, 5)
    requests = Requests(np.array([0, 1]), np.array([[0, -1], [1, 2]]), np.array([False, False]))
    scores = np.array([[0.9, 0.5, 0.7, 0.8, 0.1], [5.0, 4.0, 3.0, 2.0, 1.0]], dtype=np.float32)
    fits = Fits(
        np.array([0, 0]), 0, lambda fit, user: scores[user].copy(), interactions, np.zeros((5, 0), np.float32)
    )
    found = top_k(fits, requests, 3)
    assert found.items_RK.tolist() == [[2, 1, 4], [3, 4, -1]]
    assert found.score_RK[1].tolist() == [2.0, 1.0, -np.inf]
    np.testing.assert_array_equal(found.exposed_score_RE, np.array([[0.9, -np.inf], [4.0, 3.0]], np.float32))


def test_folds_are_even_and_a_fit_leaves_out_exactly_its_own() -> None:
    interactions, requests = world()
    fit_R = assign_fits(requests, 4, seed=3)
    assert (fit_R[~requests.training_R] == 4).all()
    sizes = np.bincount(fit_R[requests.training_R], minlength=4)
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == 4
    for fit in range(4):
        assert set(seen_by(fit, 4, fit_R, interactions).list_n) == set(
            np.flatnonzero(requests.training_R & (fit_R != fit))
        )
    assert len(seen_by(4, 4, fit_R, interactions).user_n) == len(interactions.user_n)


@pytest.mark.parametrize("retriever", [matrix_factorization, popularity])
def test_a_lists_own_items_do_not_move_its_scores(retriever: object) -> None:
    """Change one training list's items: its own scores stay, bit for bit; in-sample they do not."""
    interactions, requests = world()
    changed_list = 7
    items = requests.exposed_RE.copy()
    unused = np.setdiff1d(np.arange(ITEMS), items[requests.user_R == requests.user_R[changed_list]])
    items[changed_list] = unused[:WIDTH]
    changed = log_of(requests.user_R, items, requests.training_R)
    user = requests.user_R[[changed_list]]
    moved = {}
    for fit in ("cross_fit", "in_sample"):
        config = MF if retriever is matrix_factorization else popularity.Config()
        config = type(config)(**{**{n: getattr(config, n) for n in config.__struct_fields__}, "fit": fit})
        before = retriever.fit(config, interactions, requests, 1)  # type: ignore[attr-defined]
        after = retriever.fit(config, changed, requests, 1)  # type: ignore[attr-defined]
        number = int(before.fit_R[changed_list])
        moved[fit] = not np.array_equal(before.score(number, user), after.score(number, user))
    assert moved == {"cross_fit": False, "in_sample": True}


def test_other_lists_do_move_and_test_lists_use_all_training_lists() -> None:
    interactions, requests = world()
    fits = matrix_factorization.fit(MF, interactions, requests, 1)
    alone = matrix_factorization.fit(
        matrix_factorization.Config(factors=4, iterations=3, fit="in_sample"), interactions, requests, 1
    )
    user = np.arange(USERS)
    np.testing.assert_array_equal(fits.score(4, user), alone.score(0, user))
    assert not np.array_equal(fits.score(0, user), fits.score(1, user))


def test_candidates_are_distinct_unexposed_and_new_to_their_fit() -> None:
    interactions, requests = world()
    found, fit_R = retrieve(interactions, requests), assign_fits(requests, 4, 1)
    assert (np.diff(found.score_RK, axis=1) <= 0).all()
    for row in range(len(requests.user_R)):
        known = seen_by(int(fit_R[row]), 4, fit_R, interactions)
        seen = set(known.item_n[known.user_n == requests.user_R[row]])
        got = found.items_RK[row].tolist()
        assert len(set(got)) == 5
        assert not set(got) & (seen | set(requests.exposed_RE[row]))


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second, other = (
        retrieve(*world()),
        retrieve(*world()),
        matrix_factorization.retrieve(MF, *world(), 5, 2),
    )
    for name in ("items_RK", "score_RK", "exposed_score_RE", "item_vectors_ID"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.score_RK, other.score_RK)
    assert np.mean(first.item_vectors_ID**2) == pytest.approx(1.0, rel=1e-5)


def test_a_user_whom_the_fit_never_saw_gets_the_mean_users_scores() -> None:
    interactions, requests = world()
    fits = matrix_factorization.fit(MF, interactions.take(interactions.user_n != 5), requests, 1)
    others = np.setdiff1d(np.arange(USERS), [5])
    mean = fits.score(4, others).mean(axis=0)
    np.testing.assert_allclose(fits.score(4, np.array([5]))[0], mean, atol=1e-5)


def test_popularity_counts() -> None:
    interactions, requests = world()
    found = popularity.retrieve(popularity.Config(fit="in_sample"), interactions, requests, 5, 0)
    count = np.bincount(interactions.item_n, minlength=ITEMS)
    np.testing.assert_allclose(found.exposed_score_RE, np.log1p(count)[requests.exposed_RE], rtol=1e-6)


def test_logged_keeps_the_logs_candidates() -> None:
    interactions = Interactions(np.array([0]), np.array([0]), np.array([-1]), 1, 9)
    exposed, candidates = np.array([[2, 4]]), np.array([[2, 7, 1, 5, -1]])
    scores = np.array([[0.5, 0.1, 0.9, 0.3, 9.0]], dtype=np.float32)
    training = np.array([False])
    plain = Requests(np.array([0]), exposed, training, candidates)
    scored = Requests(np.array([0]), exposed, training, candidates, scores)
    assert logged.retrieve(logged.Config(), interactions, plain, 4, 0).items_RK.tolist() == [[7, 1, 5, -1]]
    found = logged.retrieve(logged.Config(), interactions, scored, 2, 0)
    assert found.items_RK.tolist() == [[1, 5]]
    assert found.exposed_score_RE.tolist() == [[0.5, -np.inf]]
    kept = logged.retrieve(logged.Config(keep_exposed=True), interactions, scored, 4, 0)
    assert kept.items_RK.tolist() == [[1, 2, 5, 7]]
    with pytest.raises(DataError, match="no candidates"):
        logged.retrieve(logged.Config(), interactions, Requests(np.array([0]), exposed, training), 4, 0)
