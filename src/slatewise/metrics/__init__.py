"""Metrics: one file a metric, pure functions on tensors, one float64 value a request.

Every plug-in exports ``Config`` and::

    compute(config, ranking: Ranking, label_BN, observed_BN, mask_BN) -> value_B

with ``label_BN`` the weighted feedback (0 where none was observed), ``observed_BN`` True where a candidate
was exposed and ``mask_BN`` True where a candidate is real. A candidate is *positive* if its label is above 0.
A value is NaN where the metric is undefined for the request (no positive to find, one class only); means
leave it out.
Metrics that a table takes from other metrics' means, as F1 does, also export ``PARTS`` and ``pool``
(see :mod:`slatewise.metrics.named`).
"""
