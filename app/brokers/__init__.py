"""Celery brokers: the internal one that carries hints, and those of the teams that carry jobs."""
