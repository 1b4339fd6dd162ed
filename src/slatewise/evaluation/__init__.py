"""Evaluation: floors and ceilings, metrics over a split, true values, comparison and reports.

A policy is any object with a ``name`` and ``rank(batch: ListBatch) -> Ranking``. Judges never train, and
nothing here imports a reward model.
"""
