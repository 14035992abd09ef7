"""Processes: start-up, supervision, wiring, limits and private files."""
