"""What a prepared data set holds: widths, vocabularies' sizes, feedback kinds, and where it came from."""

from __future__ import annotations

from typing import Any

from slatewise.config import Frozen, replace
from slatewise.errors import DataError
from slatewise.names import nearest


class FeedbackKind(Frozen):
    """One kind of feedback, e.g. ``click``. ``binary`` is True where every logged value is 0 or 1."""

    name: str
    binary: bool


class Schema(Frozen):
    """Widths of every tensor that a batch of this data set has; all a model needs to be built.

    ``users`` and ``items`` count vocabulary entries including index 0, which stands for *unknown* (cold).
    Each ``*_categories`` entry is the size of one categorical feature's vocabulary, again with 0 = unknown.
    ``*_numeric`` name the numeric features; they come standardised, with missing values at 0.
    """

    candidates: int  # N, the widest request
    length: int  # L, the list to write
    exposed: int  # E >= L
    history: int  # H
    users: int
    items: int
    feedback: tuple[FeedbackKind, ...]
    user_numeric: tuple[str, ...] = ()
    user_categories: tuple[int, ...] = ()
    context_numeric: tuple[str, ...] = ()
    context_categories: tuple[int, ...] = ()
    item_numeric: tuple[str, ...] = ()
    item_categories: tuple[int, ...] = ()
    candidate_numeric: tuple[str, ...] = ()  # vary by request: retriever score and its geometry, prices …
    item_vector: int = 0  # width of the items' start vectors; 0 = none
    trained_users: int = 0  # indices from here on are in no training request: read them as 0; 0 = all are
    trained_items: int = 0


CANDIDATES_FROM = "candidates_from"  # of a manifest's source: what retrieved the candidates of a second stage


class Manifest(Frozen):
    """``manifest.json`` of a prepared data set.

    ``target`` weighs the feedback kinds into one number: a list's value is the sum over positions of the
    weighted feedback. ``unexposed_is_negative`` says that the protocol labels candidates without feedback 0.
    ``counts`` says what was kept and what was left out, and why. ``source`` is the data set's and the
    protocol's name and options, enough to prepare it again. ``truth`` is the name and options of the
    simulator that knows the true value of a list, where there is one. ``trained_until`` is the last moment (seconds
    since 1970) of what may be trained on, requests and interactions; 0 = not known.
    """

    name: str
    protocol: str
    schema: Schema
    target: dict[str, float]
    unexposed_is_negative: bool
    counts: dict[str, int]
    source: dict[str, Any]
    fingerprint: str
    truth: dict[str, Any] | None = None
    trained_until: int = 0
    format: int = 1

    @property
    def second_stage(self) -> bool:
        """True where a trained model retrieved the candidates: what was shown is then not all among them."""
        return CANDIDATES_FROM in self.source

    def target_weights(self) -> list[float]:
        """Weight of each feedback kind, in the schema's order."""
        return [self.target.get(kind.name, 0.0) for kind in self.schema.feedback]

    def with_target(self, target: dict[str, float]) -> Manifest:
        """The same data with feedback weighed otherwise.

        Raises:
            DataError: ``target`` names a feedback kind the data has not.
        """
        kinds = [kind.name for kind in self.schema.feedback]
        for name in target:
            if name not in kinds:
                hint = nearest(name, kinds)
                raise DataError(
                    f"target names feedback '{name}', but the data has: {', '.join(kinds)}.{hint}"
                )
        return replace(self, target=target)
