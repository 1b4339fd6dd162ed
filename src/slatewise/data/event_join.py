"""Flat tables of events joined into requests in the log schema, entity features and the users' history."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from slatewise.data.event_fields import free_name, wide
from slatewise.data.event_tables import Tables
from slatewise.data.log_columns import FIXED
from slatewise.errors import ConfigError
from slatewise.names import nearest

LABEL = "label"


@dataclass(frozen=True)
class Joined:
    """Requests in the log schema, and what was found on the way.

    Attributes:
        requests: one row a ranking.
        ranked_items: ids of all items in the requests, each once.
        users: ``id`` of every ranking (kept or not) and its ``user``.
        amounts: ``row, amount`` of every interaction of the kept types (a row of the table ``interactions``).
        counts: what was kept, what was left out, and why.
        left_out: field values that no column can hold.
    """

    requests: pl.DataFrame
    ranked_items: pl.Series
    users: pl.DataFrame
    amounts: pl.DataFrame
    counts: dict[str, int]
    left_out: int


def feedback_types(tables: Tables, wanted: tuple[str, ...], named: tuple[str, ...]) -> list[str]:
    """Interaction types that become feedback, sorted; ``label`` is one if any ranked item has a label.

    Raises:
        ConfigError: a wanted or named type does not occur.
    """
    have = set(tables.table("interactions")["type"].unique())
    if tables.table("ranked")[LABEL].is_not_null().any():
        have.add(LABEL)
    for name in (*wanted, *named):
        if name not in have:
            there = ", ".join(sorted(have)) or "none"
            raise ConfigError(f"no interaction has the type '{name}'; there are: {there}.{nearest(name, sorted(have))}")
    return sorted(wanted or have)


def requests_from(
    tables: Tables,
    *,
    types: list[str],
    amounts: dict[str, str],
    exposed_length: int | None,
    score_field: str,
    list_values: int,
) -> Joined:
    """Join rankings, their items and interactions; options as in ``data.datasets.events.Config``."""
    rankings, ranked, counts = _kept(tables)
    shown = ranked if exposed_length is None else ranked.filter(pl.col("place") < exposed_length)
    acts = _amounts(tables, types, amounts)
    feedback, lost = _feedback(acts, rankings, shown, types)
    scores, columns, left_out = _candidate_columns(tables, ranked, score_field, list_values)
    requests = (
        rankings.select("row", request_id="id", user_id="user", timestamp="timestamp")
        .join(_lists(ranked.select("ranking", candidates="item"), scores, columns), left_on="row", right_on="ranking")
        .join(_lists(shown.select("ranking", exposed="item"), feedback), left_on="row", right_on="ranking")
        .sort("row")
    )
    context = wide(tables.table("rankings.fields"), tables.height("rankings"), list_values=list_values)
    requests = requests.with_columns(
        values.gather(requests["row"]).alias(f"context_{name}") for name, values in context.columns.items()
    ).drop("row")
    return Joined(requests, ranked["item"].unique(), tables.table("rankings").select("id", "user"),
                  acts.select("row", "amount"), counts | lost, left_out + context.left_out)  # fmt: skip


def _kept(tables: Tables) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """Rankings with an id of their own and at least one item, and their items, each once, with its ``place``."""
    every = tables.table("rankings").with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    first = every.unique("id", keep="first", maintain_order=True)
    ranked = tables.table("ranked").with_row_index("at")
    filled = first.filter(pl.col("row").is_in(ranked["ranking"].unique().implode()))
    ranked = ranked.filter(pl.col("ranking").is_in(filled["row"].implode()))
    once = ranked.unique(["ranking", "item"], keep="first", maintain_order=True)
    once = once.with_columns(place=pl.int_range(pl.len()).over("ranking"))
    counts = {
        "rankings": every.height,
        "rankings_of_an_earlier_id": every.height - first.height,
        "rankings_without_items": first.height - filled.height,
        "rankings_without_user": filled["user"].null_count(),
        "items_repeated_in_a_ranking": ranked.height - once.height,
        "requests": filled.height,
    }
    # A ranking without user or session is its own, else all anonymous visitors would share one history.
    return filled.with_columns(pl.col("user").fill_null(pl.col("id"))), once, counts


def _amounts(tables: Tables, types: list[str], fields: dict[str, str]) -> pl.DataFrame:
    """Interactions of the kept types with their ``amount``: a field's value where ``fields`` names one, else 1."""
    acts = tables.table("interactions").with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    acts = acts.with_columns(amount=pl.when(~pl.col("type").is_in(list(fields))).then(1.0)).filter(pl.col("type").is_in(types))
    if not fields:
        return acts
    named = pl.DataFrame({"type": list(fields), "name": list(fields.values())})
    values = tables.table("interactions.fields").select("name", row="owner", value="number").unique(["row", "name"], keep="last")
    found = acts.join(named, on="type").join(values, on=["row", "name"]).select("row", "value")
    joined = acts.join(found, on="row", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("value", "amount").alias("amount")).drop("value")


def _feedback(
    acts: pl.DataFrame, rankings: pl.DataFrame, shown: pl.DataFrame, types: list[str]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """One column ``feedback_<type>`` a type, aligned with ``shown``, and what could not be joined."""
    outside = acts["ranking"].null_count()
    known = acts.join(rankings.select(ranking="id", request="row"), on="ranking", how="inner")
    matched = known.join(shown.select("at", "item", request="ranking"), on=["request", "item"], how="inner")
    table = shown.select("at")
    for name in types:
        part = matched.filter(pl.col("type") == name).group_by("at").agg(_combine(pl.col("amount")))
        table = table.join(part.rename({"amount": name}), on="at", how="left", maintain_order="left")
    if LABEL in types:
        table = table.with_columns(pl.max_horizontal(LABEL, shown[LABEL]))
    counts = {
        "interactions": acts.height,
        "interactions_outside_rankings": outside,
        "interactions_with_unknown_ranking": acts.height - outside - known.height,
        "interactions_with_item_not_shown": known.height - matched.height,
        "interactions_without_amount": acts["amount"].null_count(),
    }
    return table.select(pl.col(name).fill_null(0.0).alias(f"feedback_{name}") for name in types), counts


def _combine(amount: pl.Expr) -> pl.Expr:
    """Amounts add up; a thing that happened more than once (all amounts 1) happened."""
    return pl.when((amount == 1.0).all()).then(1.0).otherwise(amount.fill_null(0.0).sum()).alias("amount")


def _candidate_columns(
    tables: Tables, ranked: pl.DataFrame, score_field: str, list_values: int
) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Scores (no column, where there are none) and ``candidate_<name>`` of every kept ranked item."""
    fields = wide(tables.table("ranked.fields"), tables.height("ranked"), list_values=list_values)
    at = ranked["at"]
    numeric = {name: values.gather(at) for name, values in fields.columns.items() if values.dtype != pl.String}
    lost = sum(int(values.count()) for values in fields.columns.values() if values.dtype == pl.String)
    given = numeric.pop(score_field, None)
    score = ranked["relevancy"] if given is None else ranked["relevancy"].zip_with(ranked["relevancy"].is_not_null(), given.cast(pl.Float64))
    scores = pl.DataFrame()
    if score.count() == len(score):
        scores = pl.DataFrame({"candidate_scores": score})
    elif score.count():  # scores of some items only are a feature with missing values
        numeric[score_field] = score
    columns: dict[str, pl.Series] = {}
    for name, values in numeric.items():
        columns[free_name(f"candidate_{name}", [*FIXED, *columns])] = values.cast(pl.Float64)
    return scores, pl.DataFrame(columns), fields.left_out + lost


def _lists(keyed: pl.DataFrame, *aligned: pl.DataFrame) -> pl.DataFrame:
    """One row a ranking, every other column gathered into a list in the order of the rows."""
    together = pl.concat([keyed, *(frame for frame in aligned if frame.width)], how="horizontal")
    return together.group_by("ranking", maintain_order=True).agg(pl.all())


def last_known(tables: Tables, name: str, key: str, list_values: int) -> tuple[pl.DataFrame, int]:
    """``key`` and one column a field: each one's last value in time, over all events of the same id."""
    events = tables.table(name).with_row_index("owner").with_columns(pl.col("owner").cast(pl.Int64))
    ids = events["id"].unique(maintain_order=True)
    place = pl.DataFrame({"id": ids, "entity": pl.int_range(len(ids), eager=True)})
    dated = events.join(place, on="id", how="left", maintain_order="left").sort("timestamp", maintain_order=True)
    fields = tables.table(f"{name}.fields")
    ordered = dated.select("owner", "entity", "timestamp").join(fields, on="owner", how="inner", maintain_order="left")
    spread = wide(ordered.drop("owner").rename({"entity": "owner"}), len(ids), list_values=list_values)
    columns = {key: ids}
    for column, values in spread.columns.items():
        columns[free_name(column, columns)] = values
    return pl.DataFrame(columns), spread.left_out


def history(tables: Tables, joined: Joined, types: list[str]) -> pl.DataFrame:
    """``user_id, item_id, timestamp, feedback`` of every interaction whose user is known, by itself or by its ranking."""
    acts = tables.table("interactions").with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    users = joined.users.drop_nulls().unique("id", keep="first").rename({"id": "ranking", "user": "viewer"})
    acts = acts.filter(pl.col("type").is_in(types)).join(users, on="ranking", how="left")
    acts = acts.join(joined.amounts, on="row", how="left").sort("timestamp", "row")
    return acts.select(
        user_id=pl.coalesce("user", "viewer"),
        item_id="item",
        timestamp="timestamp",
        feedback=pl.col("amount").fill_null(0.0),
    ).drop_nulls("user_id")
