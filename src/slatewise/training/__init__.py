"""Training: one loop as a function, checkpoints that resume bit for bit, and the run folder."""
