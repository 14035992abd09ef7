"""Metrics: the counts of every process brought together, and figures over time."""
