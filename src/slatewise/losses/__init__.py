"""Losses: pure functions of tensors with masks, one file each; every one returns a scalar to be minimised."""
