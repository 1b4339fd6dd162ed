"""The feature store that servers read users, items and histories from."""
