"""Planned token refreshes, before expiry."""
