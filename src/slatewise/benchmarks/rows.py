"""What a suite answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from slatewise.config import Frozen

Progress = Callable[[str, float], None]  # what is being measured, share of the whole run that is done


class Row(Frozen):
    """One measurement and what it is held against; ``ratio`` is ``value / reference``."""

    name: str
    value: float
    unit: str
    reference: float | None = None
    ratio: float | None = None


class Expectation(Frozen):
    """A bound on the ratio of the row whose name begins with ``row``, set before the measurement."""

    row: str
    at_least: float | None = None
    at_most: float | None = None

    def met(self, ratio: float) -> bool:
        """Whether the ratio keeps the bound."""
        above = self.at_least is None or ratio >= self.at_least
        return above and (self.at_most is None or ratio <= self.at_most)

    def words(self) -> str:
        """The bound, e.g. ``at least 10``."""
        bounds = {"at least": self.at_least, "at most": self.at_most}
        return " and ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)


def compared(name: str, value: float, unit: str, reference: float) -> Row:
    """A row with its ratio."""
    return Row(name=name, value=value, unit=unit, reference=reference, ratio=value / reference)


def judged(rows: Iterable[Row], expected: Iterable[Expectation]) -> list[tuple[Expectation, Row]]:
    """Each expectation with its row; one whose row was not measured (other sizes) is left out."""
    rows = list(rows)
    return [
        (e, row) for e in expected for row in rows if row.name.startswith(e.row) and row.ratio is not None
    ]
