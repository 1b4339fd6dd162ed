"""One training step of GoalRank's generator against the plain way, at the same lists a request.

Ours: the group is sampled without gradient, all lists at once on cached keys and values, and scored with gradient in
one teacher-forced pass. The plain way: the lists are rolled out one after the other, every position re-runs the whole
network with gradient, and one backward goes through all of it. Where that does not fit in memory, its batch is cut
into micro-batches whose gradients add up to the same step. The reward is a gather of given scores on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slatewise.benchmarks import inputs
from slatewise.benchmarks.memory import peak_apart
from slatewise.benchmarks.plain import sampler, write_plainly
from slatewise.benchmarks.rows import Expectation, Progress, Row, compared
from slatewise.benchmarks.timing import Work, matmul_work, median_seconds, operations
from slatewise.config import Frozen
"""
