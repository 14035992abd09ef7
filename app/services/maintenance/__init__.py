"""Periodic tasks of Beat: hints for due work, and deletion of old rows."""
