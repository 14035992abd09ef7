"""Celery brokers: the internal one for hints, and those of the teams for jobs."""
