"""One thread a process, set before torch is loaded: test processes side by side would fight for cores."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis

hypothesis.settings.register_profile("quiet", deadline=None)  # a busy neighbour is no failure
hypothesis.settings.load_profile("quiet")
