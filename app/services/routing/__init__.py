"""Routing of events: matching, explanations, replays and backfills."""
